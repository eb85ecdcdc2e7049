"""Writes the small files of a run's folder, so that a crash leaves either the old file or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file. There is one writer of a run's folder at a time: whoever holds the run."""
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # otherwise a power cut may leave an empty file under the final name
    unfinished.replace(path)
