"""How a run's child process finds the settings of the worker that started it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.settings import Settings, load


def place(settings: Settings) -> dict[str, Any]:
    """Goes along with every run's arguments. The home does not: another machine's worker may take the run over."""
    return {"config": str(settings.config.absolute()) if settings.config is not None else None}


def settings_of(arguments: dict[str, Any], folder: Path) -> Settings:
    """``folder``: the run's, ``<home>/work/runs/<run id>``. Raises ConfigurationError."""
    config = arguments.get("config")
    return load(folder.absolute().parents[2], Path(config) if config else None)
