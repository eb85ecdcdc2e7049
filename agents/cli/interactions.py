"""``everlearn interactions``: lists and shows rows of the feature table."""

from __future__ import annotations

from dataclasses import asdict

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import JsonObject, counted, emit, facts, iso_times, note, one_line, show_rows
from agents.cli.stores import open_feature_table
from schemas.errors import EverlearnError
from schemas.features import Feedback, Interaction


@click.group()
def interactions() -> None:
    """List or show rows of the feature table: a question and its answer, joined with the users' feedback."""


@interactions.command("list")
@click.option("--task", help="Only those of this task.")
@click.option("-n", "limit", type=click.IntRange(1), default=20, show_default=True, help="The most rows to list.")
@json_option
@pass_context
def list_rows(context: CommandContext, /, task: str | None, limit: int) -> None:
    """List the interactions in which something happened last, newest first."""
    with open_feature_table(context.settings) as table:
        found = table.recent(task, limit + 1)
    rows = found[:limit]
    show_rows(
        rows,
        ("answer", "answered", "task", "outcome", "adapter", "question"),
        lambda row: (
            row.answer_id, row.answered_at, row.task, _outcome(row), row.adapter_id, one_line(row.question or "", 60)
        ),
        fields=describe_row,
        empty="No interaction is recorded: ask something with 'everlearn ask'.",
        as_json=context.json,
    )  # fmt: skip
    if not context.json and len(found) > limit:
        note(f"only the newest {counted(limit, 'row')}; more with -n")


@interactions.command("show")
@click.argument("id", metavar="ID")
@json_option
@pass_context
def show_row(context: CommandContext, /, id: str) -> None:
    """Show everything about the interaction with this answer id, with the word of each rater."""
    with open_feature_table(context.settings) as table:
        row = table.get(id)
        words = table.feedback([id]).get(id, [])
    if row is None:
        raise EverlearnError(f"no interaction {id!r} is recorded: see 'everlearn interactions list'")
    if context.json:
        emit({**describe_row(row), "feedback": [describe_word(word) for word in words]})
    else:
        click.echo(facts({**row_facts(row), "feedback": [_word(word) for word in words]}))


def _outcome(row: Interaction) -> str:
    """What a list shows as the outcome. A search is a question without an answer, which nobody rates."""
    if row.finish_reason == "retrieve_only":
        return "searched"
    return f"{row.outcome}, corrected to no label" if row.has_unusable_correction else row.outcome


def describe_row(row: Interaction) -> JsonObject:
    """A row for programs, without the stamps, which only decide between several feedbacks."""
    history = [turn.model_dump() for turn in row.history]
    return iso_times({**_without_stamps(asdict(row)), "history": history})


def describe_word(word: Feedback) -> JsonObject:
    """A rater's word for programs."""
    fields = {name: value for name, value in _without_stamps(asdict(word)).items() if name != "answer_id"}
    return {**fields, "retracted": word.retraction_stamp is not None}


def _word(word: Feedback) -> str:
    said = [
        f"{name} {one_line(value, 60)}" for name in ("rating", "correction", "reason") if (value := getattr(word, name))
    ]
    return f"{word.source} {word.rater or '(not named)'}: {', '.join(said) or 'retracted'}"


def row_facts(row: Interaction) -> JsonObject:
    """A row for people; its sources as places and scores."""
    sources = [f"{each.get('document_id')} ({float(each.get('score') or 0):.3f})" for each in row.sources]
    history = [f"{turn.role}: {turn.text}" for turn in row.history]
    fields = {**_without_stamps(vars(row)), "sources": sources, "history": history, "outcome": _outcome(row)}
    return {name.replace("_", " "): value for name, value in fields.items()}


def _without_stamps(fields: JsonObject) -> JsonObject:
    return {name: value for name, value in fields.items() if not name.endswith("_stamp")}
