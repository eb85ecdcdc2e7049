"""``everlearn storage``: shows what takes how much, how long it is kept, who deletes it, and what goes next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import JsonObject, columns, emit, note

if TYPE_CHECKING:
    from agents.wiring.storage import Size, StoredKind

UNITS = ("bytes", "kB", "MB", "GB", "TB")


@click.command()
@json_option
@pass_context
def storage(context: CommandContext, /) -> int:
    """Show what takes how much, how long it is kept, who deletes it, and what goes within a day.

    [retention] in everlearn.toml says how long; docs/storage.md says what must outlive what.
    """
    from agents.wiring.storage import stored

    problems: list[str] = []
    kinds = stored(context.settings, problems.append)
    if context.json:
        for each in kinds:
            emit(describe(each))
    elif kinds:
        head = ("what", "where", "number", "size", "goes within a day", "kept", "deleted by")
        rows = [
            (
                each.kind,
                each.place,
                f"{each.size.count:,}",
                amount(each.size.bytes),
                _next(each),
                each.kept,
                each.deleted_by,
            )
            for each in sorted(kinds, key=lambda each: -(each.size.bytes or 0))
        ]
        click.echo(columns(head, rows))
        click.echo(f"{amount(sum(each.size.bytes or 0 for each in kinds))} in all")
    elif not problems:
        click.echo(f"{context.settings.home} keeps nothing yet: start it with 'everlearn up'.")
    for problem in dict.fromkeys(problems):
        note(f"error: {problem}")
    return 1 if problems else 0


def describe(kind: StoredKind) -> JsonObject:
    """A kind for programs, with exact numbers."""
    return {
        "kind": kind.kind,
        "place": kind.place,
        "count": kind.size.count,
        "bytes": kind.size.bytes,
        "kept": kind.kept,
        "deleted_by": kind.deleted_by,
        "next": None if kind.next is None else _size(kind.next),
    }


def amount(size: int | None) -> str:
    """``1.5 MB``; a dash where the size is not known."""
    if size is None:
        return "–"
    value = float(size)
    for unit in UNITS:
        if value < 1000 or unit == UNITS[-1]:
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == UNITS[0] else f"{value:,.1f} {unit}"


def _size(size: Size) -> JsonObject:
    return {"count": size.count, "bytes": size.bytes}


def _next(kind: StoredKind) -> str:
    if kind.next is None:
        return "–"
    return f"{kind.next.count:,}, {amount(kind.next.bytes)}" if kind.next.count else "0"
