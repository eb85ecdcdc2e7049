"""Which errors are the machine's and not the input's, by real errors where a machine gives them cheaply."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import (
    AdapterMissing,
    ConfigurationError,
    EngineCrashed,
    InvalidEvent,
    Unavailable,
    plain,
    unavailable,
)


def full_disk(folder: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as device:
        device.write(b"x")


def file_too_large(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        (folder / "large").write_bytes(b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def too_many_files(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        os.dup(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def nobody_listens(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        socket.create_connection(free.getsockname(), timeout=5)


def no_such_host(folder: Path) -> None:
    socket.getaddrinfo("no-such-host.invalid", 80)


def wrapped_by_a_library(folder: Path) -> None:
    try:
        full_disk(folder)
    except OSError as error:
        raise RuntimeError("cannot save the file") from error


def no_file(folder: Path) -> None:
    (folder / "missing").read_text()


def name_too_long(folder: Path) -> None:
    (folder / ("x" * 5000)).write_text("")


def a_folder(folder: Path) -> None:
    folder.read_text()


def caught(action: Callable[[Path], None], folder: Path) -> Exception:
    with pytest.raises(Exception) as found:  # noqa: PT011  # the test asks what it is
        action(folder)
    return found.value


@pytest.mark.parametrize(
    ("action", "advice"),
    [
        (full_disk, "make room on the disk"),
        (file_too_large, "refuses it"),
        (too_many_files, "allow more open files"),
        (nobody_listens, "refuses it"),
        (no_such_host, "refuses it"),
        (wrapped_by_a_library, "make room on the disk"),
    ],
)
def test_what_the_machine_or_the_network_refuses_is_unavailable(
    action: Callable[[Path], None], advice: str, tmp_path: Path
):
    found = unavailable(caught(action, tmp_path))
    assert type(found) is Unavailable
    assert advice in str(found)


@pytest.mark.parametrize("action", [no_file, name_too_long, a_folder])
def test_a_path_that_may_come_of_the_input_is_not(action: Callable[[Path], None], tmp_path: Path):
    assert unavailable(caught(action, tmp_path)) is None


@pytest.mark.parametrize(
    "code", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EDQUOT, errno.ENFILE, errno.ENOMEM, errno.ESTALE]
)
def test_what_no_test_can_provoke_is_unavailable_by_its_number(code: int):
    found = unavailable(OSError(code, os.strerror(code), "/data/file"))
    assert found is not None
    assert str(found).startswith(f"/data/file: {os.strerror(code)}; ")


def test_unavailable_stays_itself_and_a_crash_or_a_fault_of_the_input_is_not_waited_for():
    away = Unavailable("away")
    assert unavailable(away) is away
    full = OSError(errno.ENOSPC, "full")
    for error in (EngineCrashed("died"), InvalidEvent("bad"), ConfigurationError("wrong"), AdapterMissing("gone")):
        assert unavailable(error) is None
        error.__cause__ = full  # whoever raised it knew the cause, and decided
        assert unavailable(error) is None
    assert unavailable(ValueError("bad")) is None


def test_a_plain_text_is_one_line_that_every_event_takes():
    assert plain("a\n b\0c\ud800 ") == "a b c?"
    assert plain("x" * 9, most=4) == "xxxx"
