"""Ties a process to whoever started it, then becomes it: ``tether.py SIGNAL PIDFILE COMMAND…``.

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

PR_SET_PDEATHSIG = 1
PARENT = "EVERLEARN_TETHER"
"""The id of the tethered process, for those that it starts to compare their parent with."""


def tethered(command: list[str], death: signal.Signals, pid_file: Path) -> list[str]:
    """The command line that runs ``command`` so that it gets ``death`` when the process that starts it dies."""
    return [sys.executable, "-I", "-S", __file__, str(int(death)), str(pid_file), *command]


def tie(death: int) -> None:
    """Asks the kernel for a signal on the parent's death, 0 for none; nothing happens on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death)


def main(arguments: list[str]) -> None:
    """Becomes the command."""
    death, pid_file, command = int(arguments[0]), arguments[1], arguments[2:]
    tie(death)
    parent = os.environ.get(PARENT)
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)  # the parent died before the tie was made
    # Neither closed nor inheritable by accident: the lock lives as long as the process that this one becomes.
    descriptor = os.open(pid_file, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(descriptor, True)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    os.execvpe(command[0], command, {**os.environ, PARENT: str(os.getpid())})


if __name__ == "__main__":
    main(sys.argv[1:])
