"""Prints for commands: JSON lines for programs, columns for people, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from schemas.registry import AdapterRecord, ModelRecord

if TYPE_CHECKING:
    pass

Advance = Callable[[int], None]


def emit(fields: Mapping[str, Any]) -> None:
    """One JSON line on stdout, flushed, so that a program reading along has it at once."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(fields, ensure_ascii=not utf8))


def note(text: str) -> None:
    """A line on stderr: what is neither a result nor an error."""
    click.echo(printable(text), err=True)


def conclude(fields: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    """A command's result: its fields for a program, a sentence for a person."""
    if as_json:
        emit(fields)
    else:
        click.echo(printable(sentence))


def printable(text: str) -> str:
    """The text without control characters: what others wrote must not steer the terminal."""
    return "".join(each if each in "\n\t" or each.isprintable() or each.isspace() else "\ufffd" for each in text)


def one_line(text: str, width: int = 80) -> str:
    """The text's beginning on one line, with ``…`` where more follows."""
    line = " ".join(printable(text).split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def columns(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under their heads, each column as wide as its widest cell; the last one is not padded."""
    cells = [[name.upper() for name in head], *([_cell(each) for each in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def facts(pairs: Mapping[str, object]) -> str:
    """Names and values, a line each; what is None or empty is left out."""
    shown = {name: _cell(value) for name, value in pairs.items() if value not in (None, "", (), [])}
    width = max((len(name) for name in shown), default=0)
    return "\n".join(
        f"{name.ljust(width)}  {value.replace(chr(10), chr(10) + ' ' * (width + 2))}" for name, value in shown.items()
    )


def counted(number: int, noun: str) -> str:
    """``1 document``, ``2 documents``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(each) for each in value)
    return printable(str(value))


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on stderr when that is a terminal; a call tells how many more are done."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console  # here, because it takes longer to import than most commands run
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


def record_fields(record: AdapterRecord | ModelRecord) -> dict[str, Any]:
    """A record for programs: times in ISO 8601."""
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(record).items()}


def figures(values: dict[str, float]) -> str:
    """``exact_match 0.812, loss 0.312``."""
    return ", ".join(
        f"{name} {value:.3g}" if abs(value) < 1000 else f"{name} {value:,.0f}" for name, value in values.items()
    )


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


ShowShare = Callable[[float, str], None]
"""Told a share from 0 to 1 and what is being done."""


@contextmanager
def share_bar() -> Iterator[ShowShare]:
    """On a terminal a bar on stderr, that disappears when it is done; elsewhere a line for each new piece of work.

    Work that was done before shows nothing.
    """
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console  # here, because it takes longer to import than most commands run
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def _lines() -> ShowShare:
    said = ""

    def show(share: float, text: str) -> None:
        nonlocal said
        subject = text.partition(":")[0]
        if share < 1.0 and subject != said:
            said = subject
            note(f"         {subject} …")

    return show
