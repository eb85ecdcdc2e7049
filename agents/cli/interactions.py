"""``everlearn interactions``: lists and shows rows of the feature table."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import columns, counted, emit, facts, note, one_line
from agents.cli.stores import open_feature_table
from schemas.errors import EverlearnError
from schemas.features import Interaction

if TYPE_CHECKING:
    pass


@click.group()
def interactions() -> None:
    """List or show rows of the feature table: one a question, joined with what users said of the answer."""


@interactions.command("list")
@click.option("--task", help="Only those of this task.")
@click.option("-n", "limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
@json_option
@pass_context
def list_rows(context: CommandContext, /, task: str | None, limit: int) -> None:
    """List the interactions in which something happened last, newest first."""
    with open_feature_table(context.settings) as table:
        rows, total = table.recent(task, limit), table.count()
    if context.json:
        for row in rows:
            emit(describe_row(row))
        return
    if not rows:
        click.echo("No interaction is recorded: ask something with 'everlearn ask'.")
        return
    shown = [
        (row.answer_id, row.answered_at, row.task, _outcome(row), row.adapter_id, one_line(row.question or "", 60))
        for row in rows
    ]
    click.echo(columns(("answer", "answered", "task", "outcome", "adapter", "question"), shown))
    if len(rows) < total:
        note(f"{len(rows):,} of {counted(total, 'row')}; more with -n")


@interactions.command("show")
@click.argument("id", metavar="ID")
@json_option
@pass_context
def show_row(context: CommandContext, /, id: str) -> None:
    """Show everything about the interaction with this answer id."""
    with open_feature_table(context.settings) as table:
        row = table.get(id)
    if row is None:
        raise EverlearnError(f"no interaction {id!r} is recorded: see 'everlearn interactions list'")
    if context.json:
        emit(describe_row(row))
    else:
        click.echo(facts(row_facts(row)))


def _outcome(row: Interaction) -> str:
    """A search is a question without an answer, which nobody rates."""
    return "searched" if row.finish_reason == "retrieve_only" else row.outcome


def describe_row(row: Interaction) -> dict[str, Any]:
    """A row for programs: times in ISO 8601, without the stamps that only decide between several feedbacks."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(row).items()
        if not name.endswith("_stamp")
    }


def row_facts(row: Interaction) -> dict[str, Any]:
    """A row for people; its sources as places and scores."""
    sources = [f"{each.get('document_id')} ({float(each.get('score') or 0):.3f})" for each in row.sources]
    shown = {name: value for name, value in vars(row).items() if not name.endswith("_stamp")}
    return {name.replace("_", " "): value for name, value in {**shown, "sources": sources}.items()}
