"""Reads files with one JSON object a line. Each wrong line is named, and the other lines are still used."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Generic, TypeVar

from pydantic import ValidationError

from agents.cli.output import Advance, JsonObject, progress
from schemas.errors import Misuse

T = TypeVar("T")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Faulty(ValueError):
    """A line or a file that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class Item(Generic[T]):
    """A usable value, and its place: ``FILE:LINE``, or a file's path."""

    place: str
    value: T


@dataclass(frozen=True)
class Refusal:
    """The place of something that cannot be used, and the reason."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def parse(lines: Iterable[bytes], name: str, build: Callable[[JsonObject], T]) -> Iterator[Item[T] | Refusal]:
    """Yields what ``build`` makes of each line's object, in order. Empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        place = f"{name}:{number}"
        raw = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        if not raw.strip():
            continue
        try:
            yield Item(place, build(read_object(raw)))
        except Faulty as error:
            yield Refusal(place, str(error))


def read_object(line: bytes) -> JsonObject:
    """Reads the object of a line. Raises Faulty."""
    try:
        text = line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise Faulty(f"byte {error.start + 1} of the line is not UTF-8") from None
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_refuse_repeated
        )
    except json.JSONDecodeError as error:
        raise Faulty(f"is not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise Faulty("is nested too deeply") from None
    if not isinstance(value, dict):
        raise Faulty(f"is {_KINDS.get(type(value), 'a number')}, not an object: write one {{…}} a line")
    return value


def refuse_unknown(fields: Mapping[str, object], known: Iterable[str]) -> None:
    """Raises Faulty that names each field outside ``known``, so that a misspelled field is noticed."""
    known = tuple(known)
    unknown = [name for name in fields if name not in known]
    if unknown:
        names = ", ".join(repr(name) for name in unknown)
        raise Faulty(f"unknown field{'s' if len(unknown) > 1 else ''} {names}; it takes {', '.join(known)}")


def checked(build: Callable[[], T], names: Mapping[str, str] | None = None) -> T:
    """Calls ``build`` and turns a ValidationError into Faulty. ``names``: what a line calls the event's fields."""
    try:
        return build()
    except ValidationError as error:
        raise Faulty(explain(error, names or {})) from error


def explain(error: ValidationError, names: Mapping[str, str]) -> str:
    """One line that says what each wrong field should be, with the field names that the line uses."""
    return "; ".join(explanations(error, names))


def explanations(error: ValidationError, names: Mapping[str, str]) -> list[str]:
    """A message for each wrong field that says what it should be."""
    found: dict[str, str] = {}
    for each in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in each["loc"]]
        kind = each["type"]
        if len(path) > 2 and path[0] == "metadata":
            path, kind = path[:2], "metadata"
        path = [names.get(part, part) for part in path[:1]] + path[1:]
        found.setdefault(".".join(path), _wording(kind, each["msg"], each.get("ctx", {})))
    return [f"{path}: {message}" if path else message for path, message in found.items()]


def _wording(kind: str, message: str, limits: Mapping[str, object]) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "string_too_short" or (kind == "string_pattern_mismatch" and limits.get("pattern") == r"\S"):
        return "is empty"
    if kind == "string_pattern_mismatch":
        return "takes 1 to 64 letters, digits and . _ - and begins with a letter or digit"
    if kind == "string_too_long":
        return f"is longer than {limits['max_length']:,} characters"
    if kind == "string_unicode":
        return "holds half a character (a lone surrogate)"
    if kind == "metadata":
        return "must be a text, a number, true or false"
    return message.removeprefix("Value error, ")


_KINDS = {list: "a list", str: "a text", type(None): "null", bool: "true or false"}


def _refuse_constant(name: str) -> float:
    raise Faulty(f"holds {name}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Faulty(f"holds {text}, which is too large for a number")
    return number


def _refuse_repeated(pairs: list[tuple[str, object]]) -> JsonObject:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise Faulty(f"names {repeated!r} twice")
    return fields


STANDARD_INPUT = "-"


@contextmanager
def open_lines(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """Opens a file, or standard input for ``-``; gives its lines as bytes and its name. Raises Misuse."""
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer, "stdin"
        return
    with _open(path) as file:
        yield file, path


@contextmanager
def open_items(path: str, build: Callable[[JsonObject], T]) -> Iterator[Iterable[Item[T] | Refusal]]:
    """Opens a file and gives what ``build`` makes of its lines, with a progress bar. Raises Misuse."""
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
        raise Misuse(f"there is no file {path}: check the path, or give - for standard input") from None
    except OSError as error:
        raise Misuse(f"{path} cannot be read: {error.strerror}") from None
