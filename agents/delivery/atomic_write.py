"""Writes the small files of a run's folder, so that a crash leaves either the old file or the new one."""

from __future__ import annotations

from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Replaces the file. There is one writer of a run's folder at a time: whoever holds the run."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(text)
    unfinished.replace(path)
