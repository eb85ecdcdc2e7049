"""Writes files and folders that are there whole or not at all, whatever dies and however full the disk is."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import Unavailable

_PART = ".part-"
_STALE_SECONDS = 6 * 3600.0
"""What is older than this was left by something that was killed."""


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """A folder below ``parent`` to build something in, which is gone at the end unless ``place`` moved it.

    Raises Unavailable when the disk refuses.
    """
    with refusals_as_unavailable(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=parent))
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def place(part: Path, target: Path) -> bool:
    """Moves a folder that was built to where it belongs; False, and nothing done, when something is there already."""
    for each in part.iterdir():
        _sync(each)
    part.chmod(0o755)  # a temporary folder is its maker's alone, but other users' workers read this
    _sync(part)
    try:
        part.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    _sync(target.parent)
    return True


def write(path: Path, content: Iterable[bytes]) -> None:
    """A file in place of what was there. Raises Unavailable when the disk refuses."""
    with refusals_as_unavailable(path.parent):
        handle, name = tempfile.mkstemp(prefix=_PART, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in content:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            part = Path(name)
            part.chmod(0o644)
            part.replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def refusals_as_unavailable(folder: Path) -> Iterator[None]:
    """A full disk or a missing right is nobody's fault and may pass: Unavailable, with what to do."""
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{folder} cannot be written ({error.strerror or error}): make room there, and make it writable"
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sweep(folder: Path) -> None:
    for each in folder.glob(f"{_PART}*"):
        try:
            old = each.stat().st_mtime < time.time() - _STALE_SECONDS
        except OSError:
            continue
        if old:
            shutil.rmtree(each, ignore_errors=True)
