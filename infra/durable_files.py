"""Writes files and folders whole or not at all, even when the process is killed or the disk is full.

Who may read them is decided by the process's umask: ``everlearn up`` keeps them to its user.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas.errors import Unavailable

_PART = ".part-"
_STALE_SECONDS = 6 * 3600.0
"""A temporary file older than this was left by a process that was killed."""


@contextmanager
def new_folder(parent: Path) -> Iterator[Path]:
    """Yields a temporary folder below ``parent``, which is deleted at the end unless ``place`` has moved it.

    Raises Unavailable when the disk refuses.
    """
    with refusals_as_unavailable(parent):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        part = parent / f"{_PART}{uuid.uuid4().hex}"
        part.mkdir()
        try:
            yield part
        finally:
            shutil.rmtree(part, ignore_errors=True)


def place(part: Path, target: Path) -> bool:
    """Moves a folder that was built to its target. Returns False, and does nothing, when the target exists."""
    for each in part.iterdir():
        _sync(each)
    _sync(part)
    try:
        part.rename(target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    _sync(target.parent)
    return True


def remove_folder(path: Path) -> bool:
    """Removes a folder: nobody sees half of it, and what a crash leaves of it is swept later.

    Returns False where there is none. Raises Unavailable when the disk refuses.
    """
    with refusals_as_unavailable(path.parent):
        gone = path.with_name(f"{_PART}{path.name}")
        shutil.rmtree(gone, ignore_errors=True)
        try:
            path.rename(gone)
        except FileNotFoundError:
            return False
        shutil.rmtree(gone)
    return True


def replace_file(path: Path, content: Iterable[bytes]) -> None:
    """Replaces a file in one step: readers see the old content or the new. Raises Unavailable when the disk refuses."""
    with refusals_as_unavailable(path.parent):
        part = path.parent / f"{_PART}{uuid.uuid4().hex}"
        try:
            with part.open("xb") as file:
                for chunk in content:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync(path.parent)


@contextmanager
def refusals_as_unavailable(folder: Path) -> Iterator[None]:
    """Raises Unavailable, with what to do, where the disk is full or a permission is missing."""
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
