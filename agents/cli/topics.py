"""``everlearn topics``: the topic table, and how much each topic holds."""

from __future__ import annotations

from typing import Any

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import columns, emit, note
from infra.kafka import KafkaClientConfig, record_counts
from schemas.errors import EverlearnError
from schemas.topics import TOPICS, Topic


@click.command()
@json_option
@pass_context
def topics(context: CommandContext) -> None:
    """Show the topic table; with each topic's number of records when Kafka answers."""
    counts = _counts(context)
    table = [describe_topic(topic, counts) for topic in TOPICS]
    if context.json:
        for fields in table:
            emit(fields)
        return
    rows = [
        (
            each["name"],
            each["key"],
            f"{each['partitions']}{' compacted' if each['compacted'] else ''}",
            each["writer"],
            ", ".join(each["readers"] + [f"({name})" for name in each["followers"]]) or None,
            each["records"],
            ", ".join(event.__name__ for event in topic.events),
        )
        for topic, each in zip(TOPICS, table, strict=True)
    ]
    head = ("topic", "key", "partitions", "writer", "readers (followers)", "records", "events")
    click.echo(columns(head, rows))


def describe_topic(topic: Topic, counts: dict[str, int]) -> dict[str, Any]:
    """A topic for programs; ``records`` is None while Kafka does not answer or lacks it."""
    return {
        "name": topic.name,
        "key": topic.key,
        "partitions": topic.partitions,
        "compacted": topic.compacted,
        "retention_days": topic.retention_days,
        "writer": topic.writer,
        "readers": list(topic.readers),
        "followers": list(topic.followers),
        "events": [event.type for event in topic.events],
        "records": counts.get(topic.name),
    }


def _counts(context: CommandContext) -> dict[str, int]:
    settings = context.settings
    try:
        return record_counts(KafkaClientConfig.from_settings(settings), [topic.name for topic in TOPICS])
    except EverlearnError as error:
        note(f"no counts: {error}")  # the table itself needs no broker
        return {}
