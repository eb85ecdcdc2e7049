"""Reads and writes the wire format: CloudEvents 1.0 in Kafka's binary content mode.

Attributes travel as ``ce_*`` headers in UTF-8, the event as JSON in the value, and the partition key as the Kafka key.
Sources: CloudEvents 1.0.2 core, Kafka protocol binding, extensions partitioning and distributed tracing.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Generic, TypeVar

from pydantic import ValidationError

from schemas.event import Event
from schemas.faults import describe, shown
from schemas.topics import BY_NAME, CLIENTS, EVENT_TYPES, TOPIC_OF, origin_topic

Headers = tuple[tuple[str, bytes], ...]
E_co = TypeVar("E_co", bound=Event, covariant=True)

CONTENT_TYPE = b"application/json"
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""An event from further in the future is refused, because it would win over every later event."""

MAX_ATTRIBUTE_CHARACTERS = 256
"""The longest attribute that is accepted. Source and id together must fit into a PostgreSQL index: 2,704 bytes."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:everlearn:events")


class MalformedRecord(ValueError):
    """A Kafka record is not an event of its topic; the message says what is wrong."""


@dataclass(frozen=True, kw_only=True)
class EventContext:
    """The CloudEvents attributes of an event. Source and id identify it; ``time`` is when the fact happened."""

    id: str
    source: str
    time: datetime
    correlation_id: str | None = None
    """Id of the event that started the whole chain."""
    causation_id: str | None = None
    """Id of the event that caused this one."""
    traceparent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """A record to send. It holds only bytes, so sending it again sends the same bytes.

    Key and value are None only in a dead letter whose original had none.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, order=True)
class Position:
    """The place in Kafka where a record was read."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Received(Generic[E_co]):
    """An event that was read, with its context and the place where it was read."""

    event: E_co
    context: EventContext
    position: Position

    @property
    def identity(self) -> str:
        """Identifies the event; two deliveries of the same event have the same identity."""
        return identity(self.context)


def identity(context: EventContext) -> str:
    """Returns what identifies an event: its source and its id. A source contains no space, so the pair is unique."""
    return f"{context.source} {context.id}"


def derived_id(*parts: str | int) -> str:
    """Returns a UUIDv5 of the parts. The same parts give the same id on every machine."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(str(part) for part in parts)))


def new_context(
    source: str, *, now: datetime, correlation_id: str | None = None, event_id: str | None = None
) -> EventContext:
    """Returns the context of an event that starts a chain, sent by a person or another program."""
    trace = uuid.uuid4().hex
    return EventContext(
        id=event_id or str(uuid.uuid4()),
        source=source,
        time=now,
        correlation_id=correlation_id,
        traceparent=f"00-{trace}-{uuid.uuid4().hex[:16]}-01",
    )


def output_context(cause: EventContext, agent: str, ordinal: int | str, time: datetime) -> EventContext:
    """Returns the context of an agent's ``ordinal``-th output. Its id depends only on cause, agent and ordinal."""
    output_id = derived_id(cause.source, cause.id, agent, ordinal)
    traceparent = None
    if cause.traceparent is not None:
        version, trace, _, flags = cause.traceparent.split("-", 3)
        traceparent = f"{version}-{trace}-{output_id.replace('-', '')[:16]}-{flags}"
    return EventContext(
        id=output_id,
        source=f"/everlearn/{agent}",
        time=time,
        correlation_id=cause.correlation_id or cause.id,
        causation_id=cause.id,
        traceparent=traceparent,
    )


def encode(event: Event, context: EventContext, topic: str | None = None) -> Record:
    """Returns the record of an event, for the event's own topic unless another is given."""
    key = event.key
    attributes = {
        "specversion": "1.0",
        "id": context.id,
        "source": context.source,
        "type": event.type,
        "time": context.time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "partitionkey": key,
        "correlationid": context.correlation_id,
        "causationid": context.causation_id,
        "traceparent": context.traceparent,
    }
    headers = [("content-type", CONTENT_TYPE)]
    headers += [(f"ce_{name}", value.encode()) for name, value in attributes.items() if value is not None]
    return Record(
        topic=topic or TOPIC_OF[type(event)].name,
        key=key.encode(),
        value=event.model_dump_json(exclude_none=True).encode(),
        headers=tuple(headers),
    )


def decode(
    topic: str, value: bytes | None, headers: Iterable[tuple[str, bytes | None]], *, now: datetime
) -> tuple[Event, EventContext]:
    """Returns the event and the context in a record of a topic, or of its retry or dead-letter topic.

    Raises MalformedRecord when headers or value are not an event of this topic, or when its time is in the future. An
    agent's output from the future is the fault of that agent's clock, not of the event: its time becomes ``now``.
    """
    attributes = _attributes(headers)
    event_type = _event_type(topic, attributes)
    time = _time(attributes["time"])
    if _is_output(topic, attributes["source"]):
        time = time if time <= now + MAX_CLOCK_SKEW else now
    _refuse_future("ce_time", time, now)
    if not value:
        raise MalformedRecord("the value is empty")
    try:
        event = event_type.model_validate_json(value)
    except ValidationError as error:
        raise MalformedRecord(describe(error)) from error
    submitted = getattr(event, "submitted_at", None)
    if submitted is not None:
        _refuse_future("submitted_at", submitted, now)
    traceparent = attributes.get("traceparent", "")
    return event, EventContext(
        id=attributes["id"],
        source=attributes["source"],
        time=time,
        correlation_id=attributes.get("correlationid") or None,
        causation_id=attributes.get("causationid") or None,
        # W3C Trace Context: a reader ignores a traceparent that it cannot parse.
        traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
    )


def content_digest(event: Event, value: bytes) -> bytes:
    """Returns 8 bytes that identify what an event says: its type and its data.

    Two records of one event may differ in their headers, in white space, and in the order of fields. The digest is of
    the data as they were sent, not as this version understands them, so that it stays the same in later versions.
    """
    try:
        data = json.dumps(json.loads(value), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):  # Python reads less than pydantic, such as numbers of 5,000 digits
        data = value
    return blake2b(b"%b\n%b" % (event.type.encode(), data), digest_size=8).digest()


def _attributes(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, raw in headers:
        if name.startswith("ce_") and raw is not None:
            try:
                found[name.removeprefix("ce_")] = raw.decode()
            except UnicodeDecodeError as error:
                raise MalformedRecord(f"the header {shown(name)} is not UTF-8") from error
    for name in ("specversion", "id", "source", "type", "time"):
        if not found.get(name):
            raise MalformedRecord(f"the header ce_{name} is missing or empty")
    for name in ("id", "source", "correlationid", "causationid"):
        if len(found.get(name, "")) > MAX_ATTRIBUTE_CHARACTERS:
            raise MalformedRecord(f"the header ce_{name} is longer than {MAX_ATTRIBUTE_CHARACTERS} characters")
        if "\0" in found.get(name, ""):
            raise MalformedRecord(f"the header ce_{name} holds the character U+0000, which PostgreSQL cannot keep")
    if any(character.isspace() for character in found["source"]):
        raise MalformedRecord(f"ce_source {shown(found['source'])} holds white space, which a URI cannot")
    if found["specversion"] != "1.0":
        raise MalformedRecord(f"CloudEvents version {shown(found['specversion'])} is not 1.0")
    return found


def _event_type(topic: str, attributes: dict[str, str]) -> type[Event]:
    try:
        expected = BY_NAME[origin_topic(topic)].events
    except KeyError:
        raise MalformedRecord(f"{shown(topic)} is not one of Everlearn's topics") from None
    event_type = EVENT_TYPES.get(attributes["type"])
    if event_type is None or event_type not in expected:
        names = ", ".join(each.type for each in expected)
        text = f"type {shown(attributes['type'])} does not belong on {topic}; it takes {names}"
        if event_type is None and attributes["type"].startswith("everlearn."):
            text += "; a newer Everlearn may have written it: upgrade this one, then send it again with 'dlq retry'"
        raise MalformedRecord(text)
    return event_type


def _time(text: str) -> datetime:
    try:
        # RFC 3339 allows a small t and z, which Python does not read.
        time = datetime.fromisoformat(text.upper())
        moment = time.astimezone(UTC) if time.tzinfo is not None else None
    except (ValueError, OverflowError) as error:
        raise MalformedRecord(f"ce_time {shown(text)} is not an RFC 3339 time") from error
    if moment is None:
        raise MalformedRecord(f"ce_time {shown(text)} names no time zone")
    return moment


def _is_output(topic: str, source: str) -> bool:
    writer = BY_NAME[origin_topic(topic)].writer
    return writer != CLIENTS and source == f"/everlearn/{writer}"


def _refuse_future(name: str, time: datetime, now: datetime) -> None:
    if time > now + MAX_CLOCK_SKEW:
        raise MalformedRecord(f"{name} {time.isoformat()} is more than 5 minutes in the future; set the sender's clock")
