"""``everlearn topics`` and ``tail``: the topic table, and the records of a topic, decoded."""

from __future__ import annotations

import difflib
import json
import shutil
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from itertools import islice
from types import FrameType

import click

from agents.cli.context import CommandContext, json_option, pass_context
from agents.cli.output import JsonObject, emit, note, one_line, printable, show_rows
from agents.delivery.dead_letters import PREFIX
from infra.kafka import RecordReader, StoredRecord, kafka_connection, record_counts
from schemas.envelope import MalformedRecord, decode
from schemas.errors import EverlearnError, Misuse
from schemas.topics import BY_NAME, EVENT_TYPES, TOPICS, Topic, all_topics

VERSION = ".v1"
POLL_SECONDS = 1.0
NARROWEST = 120
"""The least width of a line of ``tail``."""
HANDLED = f"{PREFIX}handled"
"""The header of a marker that says which dead letter was handled, as PARTITION:OFFSET."""
HOW = f"{PREFIX}how"
"""The header of a marker that says what was done about the dead letter."""


def topic_name(given: str, among: Collection[str] | None = None) -> str:
    """The topic of that name; ``answers`` means ``answers.v1``. Raises Misuse that names near matches."""
    among = [topic.name for topic in all_topics()] if among is None else among
    for name in (given, given + VERSION):
        if name in among:
            return name
    near = difflib.get_close_matches(given, among, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there is {', '.join(BY_NAME)}"
    raise Misuse(f"there is no topic {given!r}; {hint}")


def reader_name(given: str) -> str:
    """The agent of that name that reads topics. Raises Misuse."""
    readers = sorted({reader for topic in TOPICS for reader in topic.readers})
    if given not in readers:
        raise Misuse(f"no agent {given!r} reads a topic; there is {', '.join(readers)}")
    return given


@click.command()
@json_option
@pass_context
def topics(context: CommandContext) -> None:
    """Show the topic table; with each topic's number of records when Kafka answers."""
    counts = _counts(context)
    table = [describe_topic(topic, counts) for topic in TOPICS]
    event_names = {topic.name: ", ".join(event.__name__ for event in topic.events) for topic in TOPICS}
    show_rows(
        table,
        ("topic", "key", "partitions", "writer", "readers (followers)", "records", "events"),
        lambda each: (
            each["name"],
            each["key"],
            f"{each['partitions']}{' compacted' if each['compacted'] else ''}",
            each["writer"],
            ", ".join(each["readers"] + [f"({name})" for name in each["followers"]]) or None,
            each["records"],
            event_names[each["name"]],
        ),
        fields=lambda each: each,
        empty="",
        as_json=context.json,
    )


def describe_topic(topic: Topic, counts: dict[str, int]) -> JsonObject:
    """A topic for programs. ``records`` is None where Kafka does not answer or lacks the topic."""
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
        return record_counts(kafka_connection(settings), [topic.name for topic in TOPICS])
    except EverlearnError as error:
        note(f"no counts: {error}")  # the table itself needs no Kafka
        return {}


@click.command()
@click.argument("topic")
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest record instead of the next one.")
@click.option("--until-end", is_flag=True, help="Stop at the present end instead of following; implies the former.")
@click.option("-n", "limit", type=click.IntRange(1), help="Stop after this number of records.")
@json_option
@pass_context
def tail(context: CommandContext, /, topic: str, from_beginning: bool, until_end: bool, limit: int | None) -> None:
    """Follow TOPIC, decoded; records that are no events of it are shown as such, with the reason.

    TOPIC is a name of 'everlearn topics', where .v1 may be left out, or a .dlq or .retry topic.
    """
    name = topic_name(topic)
    config = kafka_connection(context.settings)
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
        # A poll returns one partition after another. People want the order of time.
        yield from sorted(reader.poll(POLL_SECONDS), key=lambda record: record.time)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether Ctrl-C was pressed. A second Ctrl-C raises KeyboardInterrupt.

    The handler sets a flag instead of raising, because an exception might arise inside code that ignores it, such as a
    finalizer.
    """
    pressed = False

    def mark(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            signal.default_int_handler(number, frame)
        pressed = True

    before = signal.signal(signal.SIGINT, mark)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def describe_record(record: StoredRecord, *, now: datetime) -> JsonObject:
    """A record for programs: with ``data`` where it is an event of its topic, else with ``error`` and ``value``."""
    fields: JsonObject = {
        "topic": record.position.topic,
        "partition": record.position.partition,
        "offset": record.position.offset,
        "time": record.time.isoformat(),
        "key": _text(record.key),
    }
    headers = dict(record.headers)
    if HANDLED in headers:
        return fields | {"handled": _text(headers[HANDLED]), "how": _text(headers.get(HOW))}
    failure = {name.removeprefix(PREFIX): _text(value) for name, value in headers.items() if name.startswith(PREFIX)}
    if failure:
        fields["dead_letter"] = failure
    try:
        event, context = decode(record.position.topic, record.value, record.headers, now=now)
    except MalformedRecord as error:
        kind = _text(headers.get("ce_type"))
        return fields | {"type": kind, "error": str(error), "value": _text(record.value)}
    return fields | {
        "time": context.time.isoformat(),
        "type": event.type,
        "id": context.id,
        "source": context.source,
        "correlation_id": context.correlation_id,
        "causation_id": context.causation_id,
        "data": event.model_dump(mode="json", exclude_none=True),
    }


def sentence(fields: JsonObject, width: int) -> str:
    """The record for people, on one line."""
    time = datetime.fromisoformat(fields["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    key = one_line(fields["key"] or "–", 40)
    if "handled" in fields:
        rest = f"({fields['how']}: {fields['handled']})"
    elif "error" in fields:
        rest = f"not an event: {fields['error']}: {fields['value']}"
    else:
        rest = f"{event_name(fields['type'])} {json.dumps(fields['data'], ensure_ascii=False)}"
    if "dead_letter" in fields:
        failure = fields["dead_letter"]
        rest = f"[{failure.get('error')}: {failure.get('message')}] {rest}"
    return printable(f"{time}  {fields['partition']}:{fields['offset']}  {key}  {one_line(rest, width)}")


def event_name(kind: str) -> str:
    """``DocumentSubmitted`` of ``everlearn.document.submitted.v1``."""
    return EVENT_TYPES[kind].__name__ if kind in EVENT_TYPES else kind


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", errors="backslashreplace") if value is not None else None
