"""Sends what a person publishes: every usable item is confirmed, every other one is named on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TypeVar

from agents.cli.jsonl import Item, Refusal
from agents.cli.output import counted, note
from infra.kafka import RecordPublisher, kafka_connection
from schemas.envelope import Record, encode, new_context
from schemas.errors import EverlearnError
from schemas.event import Event
from schemas.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from infra.settings import Settings

E = TypeVar("E", bound=Event)
SOURCE = "/everlearn/cli"
SHOWN_REFUSALS = 100
"""How many refused items of one file are shown."""
CONFIRM_EVERY = 200
"""How many documents of a folder are sent between two confirmations. After a crash, at most these are sent again."""


class RecordSender(Protocol):
    """Sends records; ``flush`` returns once Kafka has confirmed them all, or raises Unavailable."""

    def send(self, record: Record) -> object: ...

    def flush(self) -> None: ...


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Tally:
    """Counts the items that were sent, by kind of event, and those that were refused."""

    sent: Counter[type[Event]] = field(default_factory=Counter)
    refused: int = 0

    @property
    def total(self) -> int:
        return self.sent.total() + self.refused

    def refuse(self, refusal: Refusal) -> None:
        self.refused += 1
        if self.refused <= SHOWN_REFUSALS:
            note(" ".join(str(refusal).splitlines()))  # a file's name may hold line ends
        elif self.refused == SHOWN_REFUSALS + 1:
            note("… more are refused; only the first hundred are shown")

    def require_something(self, path: str) -> None:
        """Raises EverlearnError when there was nothing to send and nothing to refuse."""
        if self.total == 0:
            raise EverlearnError(
                f"{path} holds nothing to publish: see 'everlearn publish --help' for what it may hold"
            )

    def end(self, path: str) -> None:
        """Raises EverlearnError when something was refused."""
        if self.refused:
            raise EverlearnError(
                f"{counted(self.refused, 'item')} of {path} refused, as shown above: fix these and publish again"
            )


def send_all(
    publisher: RecordSender,
    items: Iterable[Item[E] | Refusal],
    on_sent: Callable[[E], None] = lambda _event: None,
    on_confirmed: Callable[[Sequence[E]], None] | None = None,
    topic_of: Callable[[int], str | None] = lambda _place: None,
) -> Tally:
    """Sends each usable item and waits for Kafka's confirmation. Raises Unavailable when that does not come.

    ``on_confirmed`` takes batches of events that Kafka has confirmed. Without it, there is one wait at the end.
    ``topic_of`` gives the topic of an item by the number of items sent before it; None means the event's own topic.
    """
    tally = Tally()
    waiting: list[E] = []
    for item in items:
        if isinstance(item, Refusal):
            tally.refuse(item)
            continue
        record = record_of(item, topic_of(tally.sent.total()))
        if isinstance(record, Refusal):
            tally.refuse(record)
            continue
        publisher.send(record)
        tally.sent[type(item.value)] += 1
        on_sent(item.value)
        if on_confirmed is not None:
            waiting.append(item.value)
            if len(waiting) == CONFIRM_EVERY:
                publisher.flush()
                on_confirmed(waiting)
                waiting = []
    publisher.flush()
    if on_confirmed is not None and waiting:
        on_confirmed(waiting)
    return tally


def stamped(event: Event, topic: str | None = None) -> tuple[str, Record]:
    """Gives the event a new id, and its record. ``topic``: another one than the event's own."""
    context = new_context(SOURCE, now=now())
    return context.id, encode(event, context, topic)


def publish_events(settings: Settings, *events: Event) -> list[str]:
    """Publishes the events, waits for Kafka's confirmation, and gives their ids. Raises Unavailable."""
    records = [stamped(event) for event in events]
    with RecordPublisher(kafka_connection(settings)) as publisher:
        publisher.publish([record for _, record in records])
    return [event_id for event_id, _ in records]


def record_of(item: Item[E], topic: str | None = None) -> Record | Refusal:
    """The item as a record, or a refusal where the record is larger than a topic takes."""
    _, record = stamped(item.value, topic)
    size = size_of(record)
    if size > MAX_RECORD_BYTES:
        return Refusal(item.place, f"takes {size:,} bytes as a record; {MAX_RECORD_BYTES:,} is the most")
    return record


def size_of(record: Record) -> int:
    """Bytes of a record's key, value and headers."""
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers
