"""Keeps what users wrote to the user that runs Everlearn: databases, logs, datasets and the home folder itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

UMASK = 0o077
_FILE, _FOLDER = 0o600, 0o700
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private(home: Path, shared: Iterable[Path] = ()) -> None:
    """Makes every file that this process and its children create private, and mends a home folder's existing files.

    ``shared``: folders in which files stay as they are, such as models that several users read. Links are not followed.
    What belongs to another user is left alone.
    """
    os.umask(UMASK)
    kept = {each.absolute() for each in shared}
    _mend(home)
    for folder, names, files in os.walk(home):
        names[:] = [name for name in names if Path(folder, name).absolute() not in kept]
        for name in (*names, *files):
            _mend(Path(folder, name))


def create_folder(folder: Path) -> None:
    """Creates a folder that only its user can enter, unless it exists; its parents are created as usual."""
    folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)


def create_file(path: Path) -> None:
    """Creates an empty file that only its user can read, unless it exists. SQLite's side files get the same mode."""
    os.close(private_opener(str(path), os.O_RDWR | os.O_CREAT))


def private_opener(path: str, flags: int) -> int:
    """Opens a file for ``open``; only its user can read a file that this creates."""
    return os.open(path, flags, _FILE)


def _mend(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
        if mode & _OTHERS and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)
    except OSError:  # it is gone, or somebody else's
        return
