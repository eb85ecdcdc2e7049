"""Sends what a person published: every usable item, confirmed; every other one named on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from agents.commands.jsonl import Item, Refusal
from agents.commands.output import note
from schemas.envelope import Record, encode, new_context
from schemas.event import Event
from schemas.topics import MAX_RECORD_BYTES

E = TypeVar("E", bound=Event)

SOURCE = "/everlearn/cli"
SHOWN_REFUSALS = 100
"""After so many wrong lines in one file, the next one teaches nobody anything."""


class Publisher(Protocol):
    """Sends records; ``flush`` returns once Kafka has confirmed them all, or raises Unavailable."""

    def send(self, record: Record) -> object: ...

    def flush(self) -> None: ...


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Tally:
    """What became of the items: how many were sent, by kind of event, and how many could not be."""

    sent: Counter[type[Event]] = field(default_factory=Counter)
    refused: int = 0

    @property
    def total(self) -> int:
        return self.sent.total() + self.refused

    def refuse(self, refusal: Refusal) -> None:
        self.refused += 1
        if self.refused <= SHOWN_REFUSALS:
            note(str(refusal))
        elif self.refused == SHOWN_REFUSALS + 1:
            note("… more are refused; only the first hundred are shown")


def send_all(
    publisher: Publisher, items: Iterable[Item[E] | Refusal], on_sent: Callable[[E], None] = lambda _event: None
) -> Tally:
    """Sends each usable item and waits for Kafka's confirmation. Raises Unavailable when that does not come."""
    tally = Tally()
    for item in items:
        if isinstance(item, Refusal):
            tally.refuse(item)
            continue
        record = encode(item.value, new_context(SOURCE, now=now()))
        size = size_of(record)
        if size > MAX_RECORD_BYTES:
            tally.refuse(Refusal(item.place, f"takes {size:,} bytes as a record; {MAX_RECORD_BYTES:,} is the most"))
            continue
        publisher.send(record)
        tally.sent[type(item.value)] += 1
        on_sent(item.value)
    publisher.flush()
    return tally


def size_of(record: Record) -> int:
    """Bytes of a record's key, value and headers."""
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
