"""Runs one piece of long work: ``python -m agents.delivery.child MODULE:FUNCTION FOLDER PARENT_PID NICENESS``.

The child is niced, so that serving goes first. The kernel kills it when its parent dies (the parent-death signal).
Otherwise it would still run when another worker takes over the run.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from pathlib import Path

from agents.delivery.atomic_write import write_atomically
from agents.delivery.lossy_stream import LossyStream
from schemas.errors import EverlearnError

_PR_SET_PDEATHSIG = 1
FAILED_WITH_MESSAGE = 3
"""The exit code of a run whose last line on stderr is the whole error message for its user."""


def main(entry: str, folder: Path, parent: int, niceness: int) -> None:
    """Calls the function with (arguments, folder) and leaves its JSON object in ``result.json``."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit("the parent is gone")
    os.nice(niceness)
    module, _, function = entry.partition(":")
    arguments = json.loads((folder / "arguments.json").read_text())
    try:
        result = getattr(importlib.import_module(module), function)(arguments, folder)
    except EverlearnError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        sys.exit(FAILED_WITH_MESSAGE)
    write_atomically(folder / "result.json", json.dumps(result))


if __name__ == "__main__":
    # They are a file in the run's folder, on the disk whose fullness the run waits out.
    sys.stdout, sys.stderr = LossyStream(sys.stdout), LossyStream(sys.stderr)
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
