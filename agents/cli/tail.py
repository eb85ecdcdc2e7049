"""``everlearn tail``: what passes on a topic, decoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from itertools import islice

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.decoded import describe_record, sentence
from agents.cli.names import topic_name
from agents.cli.output import emit
from agents.cli.signals import interruptible
from infra.kafka import KafkaClientConfig, RecordReader, StoredRecord

POLL_SECONDS = 1.0
NARROWEST = 120


@click.command()
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record instead of the next one.")
@click.option("--until-end", is_flag=True, help="Stop at the present end instead of following; implies the former.")
@click.option("-n", "limit", type=click.IntRange(1), help="Stop after so many records.")
@json_option
@pass_context
def tail(context: CommandContext, /, topic: str, from_beginning: bool, until_end: bool, limit: int | None) -> None:
    """Follow TOPIC, decoded; records that are no events of it are shown as such, with the reason.

    TOPIC is a name of 'everlearn topics', where .v1 may be left out, or a .dlq or .retry topic.
    """
    name = topic_name(topic)
    config = KafkaClientConfig.from_settings(context.settings)
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    following: AbstractContextManager[Callable[[], bool]] = nullcontext(_never) if until_end else interruptible()
    with following as interrupted, RecordReader(config, [name], from_end=not (from_beginning or until_end)) as reader:
        records = reader.until_end() if until_end else _follow(reader, interrupted)
        for record in islice(records, limit):
            fields = describe_record(record, now=datetime.now(UTC))
            if context.json:
                emit(fields)
            else:
                click.echo(sentence(fields, width))
        if interrupted():
            raise KeyboardInterrupt


def _never() -> bool:
    return False


def _follow(reader: RecordReader, interrupted: Callable[[], bool]) -> Iterator[StoredRecord]:
    while not interrupted():
        # Partitions come one after another; within what came together, people want the order of time.
        yield from sorted(reader.poll(POLL_SECONDS), key=lambda record: record.time)
