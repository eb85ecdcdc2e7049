"""Dead letters as people see them: read from their topics, with a name for each, and what became of it.

A letter that was retried or dropped stays where it is; a marker behind it on the same topic says so to every machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from agents.delivery.dead_letters import PREFIX, original_headers
from infra.kafka import StoredRecord
from schemas.envelope import Headers, Position, Record
from schemas.errors import Misuse
from schemas.topics import TOPICS, dead_letter_topic, origin_topic, retry_topic

How = Literal["retried", "dropped"]
HANDLED = f"{PREFIX}handled"
HOW = f"{PREFIX}how"
ENDING = ".dlq"


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter. ``handled``: what was done about it, None while nothing was."""

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

    def summary(self) -> dict[str, Any]:
        """What a list shows of it."""
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

    def full(self) -> dict[str, Any]:
        """Everything about it; ``value`` is JSON where it can be read as such, text elsewhere."""
        headers = {name: _text(value) for name, value in original_headers(self.headers)}
        return {**self.summary(), "handled": self.handled, "headers": headers, "value": _value(self.value)}

    def original(self) -> Record:
        """The message as it came, for the retry topic that its agent alone reads."""
        return Record(
            topic=retry_topic(self.topic, self.agent),
            key=self.key,
            # Kafka's clients send no record without both; an agent takes an empty value for a missing one.
            value=b"" if self.key is None and self.value is None else self.value,
            headers=original_headers(self.headers),
        )

    def marker(self, how: How) -> Record:
        """The record that marks it as handled."""
        place = f"{self.position.partition}:{self.position.offset}".encode()
        return Record(topic=self.position.topic, key=place, value=None, headers=((HANDLED, place), (HOW, how.encode())))


def collect(records: Iterable[StoredRecord]) -> list[Letter]:
    """The letters among the records, oldest first, each with what its marker says."""
    letters: dict[Position, StoredRecord] = {}
    handled: dict[Position, str] = {}
    for record in records:
        headers = dict(record.headers)
        if HANDLED in headers:
            partition, _, offset = _text(headers[HANDLED]).partition(":")
            if partition.isdigit() and offset.isdigit():
                place = Position(record.position.topic, int(partition), int(offset))
                handled[place] = _text(headers.get(HOW, b"handled"))
        else:
            letters[record.position] = record
    found = [
        Letter(
            position=position,
            key=record.key,
            value=record.value,
            headers=record.headers,
            time=record.time,
            handled=handled.get(position),
        )
        for position, record in letters.items()
    ]
    return sorted(found, key=lambda letter: (letter.time, letter.position))


def parse_id(text: str) -> Position:
    """The place that an id names. Raises Misuse."""
    name, _, place = text.partition(":")
    partition, _, offset = place.partition(":")
    topic = name.removesuffix(ENDING) + ENDING
    if not (partition.isdigit() and offset.isdigit()) or topic not in letter_topics():
        raise Misuse(
            f"{text!r} is not the id of a dead letter, such as documents.v1.indexer:0:17: see 'everlearn dlq list'"
        )
    return Position(topic, int(partition), int(offset))


def letter_topics(topic: str | None = None, agent: str | None = None) -> list[str]:
    """The dead-letter topics, of one topic or one agent where those are given."""
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


def _value(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return _text(value)
