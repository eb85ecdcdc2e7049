"""Runs one piece of long work: ``python -m agents.delivery.child MODULE:FUNCTION FOLDER PARENT_PID NICENESS``.

The child is niced, so that serving goes first. The kernel kills it when its parent dies (the parent-death signal).
Otherwise it would still run when another worker takes over the run.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO

from agents.delivery.atomic_write import write_atomically
from agents.delivery.lossy_stream import LossyStream
from schemas.errors import EverlearnError, unavailable

_PR_SET_PDEATHSIG = 1
FAILED_WITH_MESSAGE = 3
"""The exit code of a run whose last line on stderr is the whole error message for its user."""
MUST_WAIT = 4
"""The exit code of a run that needs something unavailable; its last line on stderr says what."""
RESULT = "result.json"
LOCK = "lock"
"""The file in a run's folder that its child locks."""
LOCK_SECONDS = 60.0
"""How long a child waits for another one to leave the folder. Its worker learns within a third of the lease that it has
lost the run, and ends it; the kernel ends it at once if the worker is dead."""


def main(entry: str, folder: Path, parent: int, niceness: int) -> None:
    """Calls the function with (arguments, folder) and leaves its JSON object in ``result.json``."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent is gone")
    os.nice(niceness)
    with lock_folder(folder):
        if not (folder / RESULT).is_file():  # else the child that held the lock has done it
            _work(entry, folder)


def _work(entry: str, folder: Path) -> None:
    module, _, function = entry.partition(":")
    try:
        arguments = json.loads((folder / "arguments.json").read_text())
        result = getattr(importlib.import_module(module), function)(arguments, folder)
        # JSON has no NaN, and no event could carry it.
        write_atomically(folder / RESULT, json.dumps(result, allow_nan=False))
    except Exception as error:
        reason = unavailable(error)
        if reason is None and not isinstance(error, EverlearnError):
            raise
        sys.stderr.write(" ".join(str(reason or error).split()) + "\n")
        sys.exit(FAILED_WITH_MESSAGE if reason is None else MUST_WAIT)


def lock_folder(folder: Path, seconds: float = LOCK_SECONDS) -> IO[bytes]:
    """Locks a run's folder, so that two children never work in it. Exits when another one stays in it."""
    lock = (folder / LOCK).open("ab")
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                lock.close()
                sys.stderr.write(f"another process works in {folder}: end it, or wait; the run is tried again\n")
                sys.exit(FAILED_WITH_MESSAGE)
            time.sleep(0.2)
        else:
            return lock


if __name__ == "__main__":
    # They are a file in the run's folder, on the disk whose fullness the run waits out.
    sys.stdout, sys.stderr = LossyStream(sys.stdout), LossyStream(sys.stderr)
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
