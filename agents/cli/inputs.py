"""Opens what a command reads: a file of lines, or standard input where the path is ``-``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

from agents.cli.jsonl import Item, Refusal, parse
from agents.cli.output import Advance, progress
from schemas.errors import Misuse

T = TypeVar("T")

STANDARD_INPUT = "-"


@contextmanager
def open_lines(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """The file's lines as bytes, and what to call it. Raises Misuse when it cannot be opened."""
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer, "stdin"
        return
    with _open(path) as file:
        yield file, path


@contextmanager
def open_items(path: str, build: Callable[[dict[str, Any]], T]) -> Iterator[Iterable[Item[T] | Refusal]]:
    """What ``build`` makes of a file's lines, with a progress bar over its bytes. Raises Misuse as ``open_lines``."""
    with open_lines(path) as (file, name):
        size = Path(path).stat().st_size if path != STANDARD_INPUT else None
        with progress("publishing", size) as advance:
            yield parse(_counting(file, advance), name, build)


def _counting(lines: Iterable[bytes], advance: Advance) -> Iterator[bytes]:
    for line in lines:
        yield line
        advance(len(line))


def _open(path: str) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except IsADirectoryError:
        raise Misuse(f"{path} is a folder: give a file of JSON lines") from None
    except FileNotFoundError:
        raise Misuse(f"there is no file {path}: give a file of JSON lines, or - for standard input") from None
    except OSError as error:
        raise Misuse(f"{path} cannot be read: {error.strerror}") from None
