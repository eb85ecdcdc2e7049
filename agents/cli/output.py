"""Prints for commands: JSON lines for programs, columns for people, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import category

import click

from schemas.figures import jsonable

if TYPE_CHECKING:
    from rich.progress import Progress

JsonObject = dict[str, Any]
"""A JSON object that a command reads or prints; its values are any JSON."""
Advance = Callable[[int], None]
"""Takes how many more are done."""
ShowShare = Callable[[float, str], None]
"""Takes a share from 0 to 1 and what is being done."""
T = TypeVar("T")


def emit(fields: Mapping[str, object]) -> None:
    """Prints one JSON line on stdout, flushed, so that a program that reads along has it at once."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(jsonable(fields), ensure_ascii=not utf8))


def note(text: str) -> None:
    """Prints a line on stderr that is neither a result nor an error."""
    click.echo(printable(text), err=True)


def conclude(fields: Mapping[str, object], sentence: str, *, as_json: bool) -> None:
    """Prints a command's result: its fields for a program, a sentence for a person."""
    if as_json:
        emit(fields)
    else:
        click.echo(printable(sentence))


def show_rows(
    items: Sequence[T],
    head: Sequence[str],
    cells: Callable[[T], Sequence[object]],
    *,
    fields: Callable[[T], Mapping[str, object]],
    empty: str,
    as_json: bool,
) -> None:
    """Prints a list: a JSON line an item for a program, a table for a person, or ``empty`` where there is nothing."""
    if as_json:
        for item in items:
            emit(fields(item))
    elif items:
        click.echo(columns(head, [cells(item) for item in items]))
    else:
        click.echo(empty)


def iso_times(fields: Mapping[str, object]) -> JsonObject:
    """The same fields with times in ISO 8601, as JSON needs them."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}


def printable(text: str) -> str:
    """The text without control characters: what others wrote must not control the terminal."""
    lines = text.replace("\r\n", "\n")  # a carriage return alone would let what follows cover the line
    return "".join(each if each in "\n\t" or each.isprintable() or _is_space(each) else "\ufffd" for each in lines)


def _is_space(character: str) -> bool:
    return character.isspace() and category(character) != "Cc"


def one_line(text: str, width: int = 80) -> str:
    """The beginning of the text on one line, with ``…`` where more follows."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of rows, a line each. Each column is as wide as its widest cell; the last one is not padded."""
    cells = [[name.upper() for name in head], *([_line(each) for each in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def facts(pairs: Mapping[str, object]) -> str:
    """Names and values, a line each; values that are None or empty are left out."""
    shown = {printable(name): _cell(value) for name, value in pairs.items() if value not in (None, "", (), [])}
    width = max((len(name) for name in shown), default=0)
    return "\n".join(
        f"{name.ljust(width)}  {value.replace(chr(10), chr(10) + ' ' * (width + 2))}" for name, value in shown.items()
    )


def counted(number: int, noun: str) -> str:
    """``1 document``, ``2 documents``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def figures(values: Mapping[str, float]) -> str:
    """``exact_match 0.812, loss 0.312``."""
    return ", ".join(
        f"{name} {value:.3g}" if abs(value) < 1000 else f"{name} {value:,.0f}" for name, value in values.items()
    )


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def local_time(moment: datetime) -> str:
    """``2026-05-01 14:03:07`` in the time zone of this machine."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return local_time(value)
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(each) for each in value)
    return printable(str(value))


def _line(value: object) -> str:
    """A cell on one line: a line end in what others wrote would look like a row of its own."""
    return " ".join(_cell(value).split("\n"))


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Advance]:
    """Shows a progress bar of counted work on stderr when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    with _bar(remaining=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def share_bar() -> Iterator[ShowShare]:
    """Shows long work that reports its share, such as a download or a training.

    On a terminal this is a bar on stderr, which disappears when the work is done. Elsewhere it is a line for each new
    piece of work. Work that was done before shows nothing.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    with _bar(remaining=False) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def _bar(*, remaining: bool) -> Progress:
    """A bar with the time that remains, or with the time that has passed."""
    from rich.console import Console  # here, because it takes longer to import than most commands run
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn() if remaining else TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _lines() -> ShowShare:
    shown = ""

    def show(share: float, text: str) -> None:
        nonlocal shown
        subject = text.partition(":")[0]
        if share < 1.0 and subject != shown:
            shown = subject
            note(f"         {subject} …")

    return show
