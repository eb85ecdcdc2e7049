"""Writes the small files of a run's folder, so that a crash leaves either the old file or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file. Only the process that holds the run writes into its folder."""
    unfinished = path.with_name(f"{path.name}.part")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # otherwise a power cut may leave an empty file under the final name
    unfinished.replace(path)
