"""The child process that converts untrusted files: ``python -m infra.conversion.child SECONDS MEMORY_BYTES``.

It reads one path a line, as a JSON string, and writes one JSON object a line: ``text`` and ``title``, or
``unreadable``, and ``last``, which is true when the process must be replaced. An alarm signal ends the process when a
file takes too long, so that an endless loop in a library's C code ends too.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from infra.conversion.document import MAX_FILE_BYTES, READERS, Converted, Unreadable, bounded

MAX_FRAMES = 10_000
"""The recursion limit: JSON and Office files may nest a few hundred levels deep, at several frames a level."""


def main(seconds: float, memory_bytes: int) -> None:
    """Converts the files that standard input names, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C, and ends this process
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for limit, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):  # there is a stricter limit, or no such limit on this system
            resource.setrlimit(limit, (most, most))
    # The reader of spreadsheets loads numpy. Each of its threads would reserve a part of the address space.
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    sys.setrecursionlimit(MAX_FRAMES)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints must not be taken for an answer
        for line in sys.stdin.buffer:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            answer = respond(Path(json.loads(line)), memory_bytes)
            signal.setitimer(signal.ITIMER_REAL, 0)
            _write(answers, answer)


def respond(path: Path, memory_bytes: int) -> dict[str, object]:
    """Converts one file into an answer."""
    try:
        found = convert(path)
    except Unreadable as error:
        return {"unreadable": str(error), "last": False}
    except MemoryError:
        needs = f"takes more than {memory_bytes / 1024**3:.1f} GB of memory to read: split it"
        return {"unreadable": needs, "last": True}
    except RecursionError:
        return {"unreadable": "is nested too deeply", "last": False}
    except Exception as error:  # noqa: BLE001 - on a damaged file, readers raise all kinds of errors
        fault = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        return {"unreadable": f"is damaged, or no {path.suffix.lower()} file ({fault})", "last": False}
    return {"text": found.text, "title": found.title, "last": False}


def convert(path: Path) -> Converted:
    """Converts a file to Markdown, by the ending of its name. Raises Unreadable, and whatever its reader raises."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise Unreadable(f"has more than {MAX_FILE_BYTES // 1024**2} MB: split it")
    if not raw.strip():
        raise Unreadable("is empty")
    module, _, function = READERS[path.suffix.lower()].partition(":")
    reader: Callable[[bytes], Converted] = getattr(importlib.import_module(f"infra.conversion.{module}"), function)
    found = reader(raw)
    title = None if found.title is None else _clean(" ".join(found.title.split()))
    return Converted(bounded([_clean(found.text).strip()], ""), title or None)


def _clean(text: str) -> str:
    """Removes the characters that no event may hold: NUL, and lone surrogates, which broken PDF files contain."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")


def _write(answers: IO[bytes], answer: dict[str, object]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
