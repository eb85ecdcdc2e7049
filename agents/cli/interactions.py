"""``everlearn interactions``: what was asked and answered, and what users said of it, from the feature table."""

from __future__ import annotations

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.feature_rows import describe_row, open_feature_table, row_facts
from agents.cli.output import columns, counted, emit, facts, note, one_line
from schemas.errors import EverlearnError
from schemas.features import Interaction


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
