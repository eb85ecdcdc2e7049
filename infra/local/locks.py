"""File locks. The kernel releases them when their holder dies, also after a SIGKILL."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from schemas.errors import ConfigurationError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock, and makes its folder if needed; raises ConfigurationError when that cannot be written."""
    with _open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(path: Path) -> IO[str] | None:
    """Takes the lock and returns the open file that holds it until it is closed; None when another process holds it."""
    file = _open(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise ConfigurationError(
            f"{path.parent} cannot be written ({error.strerror}): choose another folder with --home"
        ) from error
