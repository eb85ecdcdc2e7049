"""Ties a process to whoever started it, then becomes it: ``die_with_parent.py SIGNAL PIDFILE COMMAND…``.

The kernel sends SIGNAL when the parent dies, however it dies, so that a killed supervisor leaves nothing behind. The
process id is written into PIDFILE, which stays locked for as long as the process lives: a locked file is a living
process of ours, whatever has become of process ids meanwhile. Run as a script and without any import of ours, because
it runs before every process of the stack.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

PR_SET_PDEATHSIG = 1
PARENT = "EVERLEARN_TETHER"
"""The id of the tethered process, for those that it starts to compare their parent with."""


class Tether(NamedTuple):
    """``death``: the signal that the process gets when its parent dies."""

    death: int
    pid_file: str
    command: list[str]


def tethered(command: list[str], death: signal.Signals, pid_file: Path) -> list[str]:
    """The command line that runs ``command`` so that it gets ``death`` when the process that starts it dies."""
    return [*_BEFORE, str(int(death)), str(pid_file), *command]


def untethered(arguments: list[str]) -> Tether | None:
    """What a command line of ``tethered`` was made of; None for any other."""
    if arguments[: len(_BEFORE)] != _BEFORE:
        return None
    death, pid_file, *command = arguments[len(_BEFORE) :]
    return Tether(int(death), pid_file, command)


def tie(death: int) -> None:
    """Asks the kernel for a signal on the parent's death, 0 for none; nothing happens on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death)


def bind(tether: Tether) -> int:
    """Ties this process and writes its id into the locked file, whose descriptor it gives; its children know it."""
    tie(tether.death)
    parent = os.environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)  # the parent died before the tie was made
    # Not closed while the process lives: the lock is the sign of it.
    descriptor = os.open(tether.pid_file, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    os.environ[PARENT] = str(os.getpid())
    return descriptor


def main(arguments: list[str]) -> None:
    """Becomes the command."""
    tether = Tether(int(arguments[0]), arguments[1], arguments[2:])
    os.set_inheritable(bind(tether), True)  # by what this process becomes, and by nothing else
    os.execvpe(tether.command[0], tether.command, os.environ)


_BEFORE = [sys.executable, "-I", "-S", __file__]

if __name__ == "__main__":
    main(sys.argv[1:])
