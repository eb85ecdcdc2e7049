"""What the child processes of runs share: the settings of their worker, patience, and the general text."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import structlog

from infra.settings import Settings, load
from schemas.errors import EngineCrashed, Unavailable

log = structlog.get_logger()
T = TypeVar("T")

PAUSE_SECONDS = 5.0
"""Between two attempts at what cannot be reached."""


def place(settings: Settings) -> dict[str, Any]:
    """Goes along with every run's arguments. The home does not: another machine's worker may take the run over."""
    return {"config": str(settings.config.absolute()) if settings.config is not None else None}


def settings_of(arguments: dict[str, Any], folder: Path) -> Settings:
    """``folder``: the run's, ``<home>/work/runs/<run id>``. Raises ConfigurationError."""
    config = arguments.get("config")
    return load(folder.absolute().parents[2], Path(config) if config else None)


def patiently(action: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Waits for SQL, the registry or room on the disk as long as it takes; an engine that died is not waited for."""
    while True:
        try:
            return action()
        except EngineCrashed:
            raise
        except Unavailable as error:
            log.warning("waiting", reason=str(error))
            sleep(PAUSE_SECONDS)


def general_texts() -> tuple[str, ...]:
    """The text that forgetting is measured on, a paragraph each."""
    text = files("agents.validator").joinpath("general.txt").read_text(encoding="utf-8")
    return tuple(each.strip() for each in text.split("\n\n") if each.strip())
