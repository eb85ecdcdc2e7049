"""``everlearn publish``: documents, labelled examples and feedback from files onto their topics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agents.cli import sources
from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.documents import documents
from agents.cli.inputs import STANDARD_INPUT, open_items
from agents.cli.output import conclude, counted
from agents.cli.sending import send_all
from infra.kafka import KafkaClientConfig, RecordPublisher
from schemas.event import Event

E = TypeVar("E", bound=Event)


@click.group()
def publish() -> None:
    """Publish documents, examples or feedback.

    Lines and files that are wrong are named and passed over; the others are published. The exit code is 1 when there
    were any.
    """


publish.add_command(documents)


@publish.command()
@click.argument("file")
@json_option
@pass_context
def examples(context: CommandContext, /, file: str) -> None:
    """Publish labelled examples from FILE, or - for stdin: lines {"task","input","output","origin"?}."""
    tasks = context.settings.tasks
    names = ", ".join(tasks) or "none: add one with 'everlearn tasks add'"
    origin = "stdin" if file == STANDARD_INPUT else Path(file).name[:200]
    _publish_lines(context, file, "example", lambda fields: sources.example(fields, tasks, names, origin))


@publish.command()
@click.argument("file")
@json_option
@pass_context
def feedback(context: CommandContext, /, file: str) -> None:
    """Publish feedback from FILE, or - for stdin: lines {"answer_id","rating"?,"correction"?,"reason"?,"user"?}.

    A rating is "up" or "down". Feedback may come before the answer that it is about.
    """
    _publish_lines(context, file, "feedback line", sources.feedback)


def _publish_lines(context: CommandContext, file: str, noun: str, build: Callable[[dict[str, Any]], E]) -> None:
    config = KafkaClientConfig.from_settings(context.settings)
    with open_items(file, build) as items, RecordPublisher(config) as publisher:
        tally = send_all(publisher, items)
    tally.require_something(file)
    report = {"published": tally.sent.total(), "refused": tally.refused}
    conclude(report, f"published {counted(report['published'], noun)}", as_json=context.json)
    tally.end(file)
