"""Starts a command that dies with its parent: ``die_with_parent.py SIGNAL PIDFILE COMMAND…``.

The kernel sends SIGNAL to the process when its parent dies, also after a SIGKILL. Without this parent-death signal a
killed supervisor would leave brokers and workers behind that hold ports and files, and nobody would be left to stop
them. It exists on Linux only; elsewhere the next start ends what was left.

The process id is written into PIDFILE, which stays locked while the process lives. A locked file therefore means that
the process still runs, even if its id has been used again. This file runs as a script before every process of the
stack, so it imports nothing of ours.
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
PARENT = "EVERLEARN_PARENT_PID"
"""The environment variable that holds the id of a process's parent."""
PID_DIGITS = 10
LAUNCHER = [sys.executable, "-I", "-S", __file__]


class BoundCommand(NamedTuple):
    """A command whose process gets a signal when its parent dies."""

    death_signal: int
    pid_file: str
    command: list[str]

    def bind(self) -> int:
        """Binds this process to its parent and returns the descriptor of the locked pid file."""
        set_death_signal(self.death_signal)
        parent = os.environ.get(PARENT)
        if parent is not None and os.getppid() != int(parent):
            os._exit(1)  # the parent died before the signal was set
        # Never closed: the lock shows that the process lives.
        descriptor = os.open(self.pid_file, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Written over the old id, in as many bytes, which needs no room: a process that dies while the disk is full can
        # be started again.
        os.write(descriptor, f"{os.getpid():<{PID_DIGITS}}".encode())
        os.environ[PARENT] = str(os.getpid())
        return descriptor


def bound_command(command: list[str], death_signal: signal.Signals, pid_file: Path) -> list[str]:
    """The command line that runs ``command`` and sends it ``death_signal`` when the process that starts it dies."""
    return [*LAUNCHER, str(int(death_signal)), str(pid_file), *command]


def parse_bound_command(arguments: list[str]) -> BoundCommand | None:
    """Reads a command line of ``bound_command``; None for any other."""
    if arguments[: len(LAUNCHER)] != LAUNCHER:
        return None
    death_signal, pid_file, *command = arguments[len(LAUNCHER) :]
    return BoundCommand(int(death_signal), pid_file, command)


def set_death_signal(number: int) -> None:
    """Asks the kernel for a signal when the parent dies, 0 for none. Does nothing on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number)


def main(arguments: list[str]) -> None:
    """Binds this process to its parent and replaces it by the command."""
    bound = BoundCommand(int(arguments[0]), arguments[1], arguments[2:])
    os.set_inheritable(bound.bind(), True)
    os.execvpe(bound.command[0], bound.command, os.environ)


if __name__ == "__main__":
    main(sys.argv[1:])
