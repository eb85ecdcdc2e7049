"""Looks for room on the disk before the stack starts: Kafka and SQLite die in unclear ways when there is none."""

from __future__ import annotations

import shutil
from pathlib import Path

from schemas.errors import ConfigurationError

NEEDED_MB = 300
"""What an empty stack writes at its start and soon after, with some room; the models not counted."""


def require_space(folder: Path, needed_mb: int = NEEDED_MB) -> None:
    """Raises ConfigurationError when the disk of an existing folder is nearly full."""
    free_mb = shutil.disk_usage(folder).free // (1024 * 1024)
    if free_mb < needed_mb:
        raise ConfigurationError(
            f"the disk of {folder} has {free_mb} MB left and the stack needs {needed_mb}: "
            "make room, or choose another folder with --home"
        )
