"""Measures what files and folders take on disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def size_of(*paths: Path) -> int:
    """Returns the bytes of files, and of all files below folders. A file that is being deleted counts as 0."""
    return sum(_size(each) for each in paths)


def databases(path: Path) -> Iterable[Path]:
    """Yields a SQLite file and the files that SQLite keeps beside it."""
    return (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))


def _size(path: Path) -> int:
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        with os.scandir(path) as entries:
            return sum(
                _size(Path(each.path))
                if each.is_dir(follow_symlinks=False)
                else each.stat(follow_symlinks=False).st_size
                for each in entries
            )
    except FileNotFoundError:
        return 0
