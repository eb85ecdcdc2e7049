"""Opens what a command reads: a file of lines, or standard input where the path is ``-``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agents.errors import Misuse

STANDARD_INPUT = "-"


@contextmanager
def open_lines(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """The file's lines as bytes, and what to call it. Raises Misuse when it cannot be opened."""
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer, "stdin"
        return
    with _open(path) as file:
        yield file, path


def _open(path: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except IsADirectoryError:
        raise Misuse(f"{path} is a folder: give a file of JSON lines") from None
    except FileNotFoundError:
        raise Misuse(f"there is no file {path}: give a file of JSON lines, or - for standard input") from None
    except OSError as error:
        raise Misuse(f"{path} cannot be read: {error.strerror}") from None
