"""``everlearn dlq``: lists, shows, retries and drops dead letters, which agents could not process.

A dead letter that was retried or dropped stays on its topic. A marker behind it on the same topic tells every
machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import click

from agents.cli.context import C, CommandContext, json_option, pass_context
from agents.cli.output import JsonObject, counted, emit, facts, one_line, progress, show_rows
from agents.cli.topics import HANDLED, HOW, reader_name, topic_name
from agents.delivery.dead_letters import PREFIX, original_headers
from infra.kafka import RecordPublisher, StoredRecord, kafka_connection, read_all
from schemas.envelope import Headers, Position, Record
from schemas.errors import EverlearnError, Misuse
from schemas.topics import BY_NAME, TOPICS, dead_letter_topic, origin_topic, retry_topic

How = Literal["retried", "dropped"]
ENDING = ".dlq"


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A dead letter. ``handled`` is what was done about it, or None."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: Headers
    time: datetime
    handled: str | None = None

    @property
    def id(self) -> str:
        """Short and stable: ``documents.v1.indexer:0:17``."""
        return f"{self.position.topic.removesuffix(ENDING)}:{self.position.partition}:{self.position.offset}"

    @property
    def topic(self) -> str:
        return origin_topic(self.position.topic)

    @property
    def agent(self) -> str:
        return self.position.topic.removesuffix(ENDING).removeprefix(f"{self.topic}.")

    def header(self, name: str) -> str | None:
        """The last header of that name, as text."""
        return next((_text(value) for each, value in reversed(self.headers) if each == name), None)

    def summary(self) -> JsonObject:
        """The fields that a list shows."""
        return {
            "id": self.id,
            "topic": self.topic,
            "agent": self.agent,
            "origin": {name: _number(self.header(f"{PREFIX}{name}")) for name in ("topic", "partition", "offset")},
            "type": self.header("ce_type"),
            "key": _text(self.key) if self.key is not None else None,
            "error": self.header(f"{PREFIX}error"),
            "message": self.header(f"{PREFIX}message"),
            "attempts": _number(self.header(f"{PREFIX}attempts")),
            "first_failure": self.header(f"{PREFIX}first_failure"),
            "time": self.time.isoformat(),
        }

    def full(self) -> JsonObject:
        """All fields. ``value`` is JSON where it can be decoded, text elsewhere."""
        headers = {name: _text(value) for name, value in original_headers(self.headers)}
        return {**self.summary(), "handled": self.handled, "headers": headers, "value": _value(self.value)}

    def original(self) -> Record:
        """The original message, for the retry topic that only its agent reads."""
        return Record(
            topic=retry_topic(self.topic, self.agent),
            key=self.key,
            # Kafka's clients send no record that lacks both. An agent treats an empty value as a missing one.
            value=b"" if self.key is None and self.value is None else self.value,
            headers=original_headers(self.headers),
        )

    def marker(self, how: How) -> Record:
        """The record that marks the dead letter as handled."""
        place = f"{self.position.partition}:{self.position.offset}".encode()
        return Record(topic=self.position.topic, key=place, value=None, headers=((HANDLED, place), (HOW, how.encode())))


def collect(records: Iterable[StoredRecord]) -> list[DeadLetter]:
    """The dead letters among the records, oldest first, each with what its marker says."""
    dead_letters: dict[Position, StoredRecord] = {}
    handled: dict[Position, str] = {}
    for record in records:
        headers = dict(record.headers)
        if HANDLED in headers:
            partition, _, offset = _text(headers[HANDLED]).partition(":")
            if partition.isdigit() and offset.isdigit():
                place = Position(record.position.topic, int(partition), int(offset))
                handled[place] = _text(headers.get(HOW, b"handled"))
        else:
            dead_letters[record.position] = record
    found = [
        DeadLetter(
            position=position,
            key=record.key,
            value=record.value,
            headers=record.headers,
            time=record.time,
            handled=handled.get(position),
        )
        for position, record in dead_letters.items()
    ]
    return sorted(found, key=lambda each: (each.time, each.position))


def parse_id(text: str) -> Position:
    """The position that an id names. Raises Misuse."""
    name, _, place = text.partition(":")
    partition, _, offset = place.partition(":")
    topic = name.removesuffix(ENDING) + ENDING
    if not (partition.isdigit() and offset.isdigit()) or topic not in dead_letter_topics():
        raise Misuse(
            f"{text!r} is not the id of a dead letter, such as documents.v1.indexer:0:17: see 'everlearn dlq list'"
        )
    return Position(topic, int(partition), int(offset))


def dead_letter_topics(topic: str | None = None, agent: str | None = None) -> list[str]:
    """The dead-letter topics; only those of one topic or one agent where these are given."""
    return [
        dead_letter_topic(each.name, reader)
        for each in TOPICS
        for reader in each.readers
        if topic in (None, each.name) and agent in (None, reader)
    ]


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="backslashreplace")


def _number(text: str | None) -> str | int | None:
    return int(text) if text is not None and text.isdigit() else text


def _value(value: bytes | None) -> object:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return _text(value)


@click.group()
def dlq() -> None:
    """List, show, retry or drop dead letters.

    A dead letter is an event that an agent could not process; it is kept for 90 days.
    """


def _filters(command: C) -> C:
    command = click.option("--topic", help="Only those from this topic.")(command)
    return click.option("--agent", help="Only those of this agent.")(command)


@dlq.command("list")
@_filters
@json_option
@pass_context
def list_dead_letters(context: CommandContext, /, topic: str | None, agent: str | None) -> None:
    """List the dead letters that nobody has handled yet, oldest first."""
    dead_letters = _unhandled(context, topic, agent)
    show_rows(
        dead_letters,
        ("id", "time", "error", "message"),
        lambda each: (each.id, each.time, each.header("dlq_error"), one_line(each.header("dlq_message") or "", 90)),
        fields=DeadLetter.summary,
        empty="There is no dead letter.",
        as_json=context.json,
    )


@dlq.command("show")
@click.argument("id", metavar="ID")
@json_option
@pass_context
def show_dead_letter(context: CommandContext, /, id: str) -> None:
    """Show everything about a dead letter."""
    full = _find(context, id).full()
    if context.json:
        emit(full)
        return
    headers = full.pop("headers")
    origin = "/".join(str(part) for part in full.pop("origin").values())
    value = full.pop("value")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    click.echo(facts({**full, "origin": origin, "value": text}))
    click.echo("\nheaders\n" + facts({f"  {name}": value for name, value in headers.items()}))


@dlq.command("retry")
@click.argument("id", metavar="[ID]", required=False)
@click.option("--all", "every", is_flag=True, help="All that nobody has handled yet.")
@_filters
@json_option
@pass_context
def retry_dead_letters(
    context: CommandContext, /, id: str | None, every: bool, topic: str | None, agent: str | None
) -> None:
    """Give dead letters back to the agent that gave them up."""
    _handle(context, _chosen(context, id, every, topic, agent), "retried")


@dlq.command("drop")
@click.argument("id", metavar="[ID]", required=False)
@click.option("--all", "every", is_flag=True, help="All that nobody has handled yet.")
@_filters
@json_option
@pass_context
def drop_dead_letters(
    context: CommandContext, /, id: str | None, every: bool, topic: str | None, agent: str | None
) -> None:
    """Mark dead letters as done with; they are not listed any more."""
    _handle(context, _chosen(context, id, every, topic, agent), "dropped")


def _unhandled(context: CommandContext, topic: str | None, agent: str | None) -> list[DeadLetter]:
    topic = topic_name(topic, BY_NAME) if topic is not None else None
    agent = reader_name(agent) if agent is not None else None
    topics = dead_letter_topics(topic, agent)
    if not topics:
        raise Misuse(f"the agent {agent} does not read {topic}: see 'everlearn topics'")
    return [each for each in _read(context, topics) if each.handled is None]


def _read(context: CommandContext, topics: list[str]) -> list[DeadLetter]:
    return collect(read_all(kafka_connection(context.settings), topics))


def _find(context: CommandContext, id: str) -> DeadLetter:
    position = parse_id(id)
    for dead_letter in _read(context, [position.topic]):
        if dead_letter.position == position:
            return dead_letter
    raise EverlearnError(f"there is no dead letter {id}: see 'everlearn dlq list'")


def _chosen(
    context: CommandContext, id: str | None, every: bool, topic: str | None, agent: str | None
) -> list[DeadLetter]:
    if (id is None) != every or (id is not None and (topic or agent)):
        raise Misuse("give either the ID of a dead letter or --all, which takes --topic and --agent")
    if id is None:
        return _unhandled(context, topic, agent)
    dead_letter = _find(context, id)
    if dead_letter.handled is not None:
        raise EverlearnError(
            f"the dead letter {id} was {dead_letter.handled} already: 'everlearn dlq list' shows the others"
        )
    return [dead_letter]


def _handle(context: CommandContext, dead_letters: list[DeadLetter], how: How) -> None:
    config = kafka_connection(context.settings)
    with RecordPublisher(config) as publisher, progress(how, len(dead_letters)) as advance:
        for dead_letter in dead_letters:
            # The retry is confirmed before the mark. After a crash in between, the agent skips the second retry.
            if how == "retried":
                publisher.publish([dead_letter.original()])
            publisher.publish([dead_letter.marker(how)])
            advance(1)
            if context.json:
                emit({"id": dead_letter.id, "how": how})
    if not context.json:
        click.echo(f"{how} {counted(len(dead_letters), 'dead letter')}")
