"""Golden payloads: events as they were published once. Add new ones, but never change one: all must stay readable."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.envelope import EventContext, Record, decode, encode
from schemas.event import Event, JsonObject
from schemas.topics import EVENT_TYPES

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 3, 2, 9, 20, tzinfo=UTC)


def golden_payloads() -> dict[str, tuple[type[Event], JsonObject]]:
    """Returns event class and payload by ``type/name``."""
    return {
        f"{event_type}/{name}": (event, payload)
        for event_type, event in EVENT_TYPES.items()
        for name, payload in json.loads((GOLDEN / f"{event_type}.json").read_text(encoding="utf-8")).items()
    }


def golden_events() -> dict[str, Event]:
    return {name: event.model_validate(payload) for name, (event, payload) in golden_payloads().items()}


def context(**changes: Any) -> EventContext:
    """Returns a context with every attribute set."""
    values: JsonObject = {
        "id": "0b1f4d0e-8a52-5a7e-9f13-0a6d2c9be001",
        "source": "/everlearn/cli",
        "time": datetime(2026, 3, 2, 9, 15, 27, 250_000, tzinfo=UTC),
        "correlation_id": "chain-1",
        "causation_id": "cause-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    return EventContext(**(values | changes))


def key_of(record: Record) -> bytes:
    assert record.key is not None
    return record.key


def value_of(record: Record) -> bytes:
    assert record.value is not None
    return record.value


DOCUMENT = golden_events()["everlearn.document.submitted.v1/full"]
RECORD = encode(DOCUMENT, context())


def read(
    *, topic: str = RECORD.topic, value: bytes | None = RECORD.value, without: str = "", **headers: bytes | None
) -> Any:
    """Decodes the record of the full document after changing parts of it."""
    changed = {**dict(RECORD.headers), **headers}
    changed.pop(without, None)
    return decode(topic, value, list(changed.items()), now=NOW)


def document_payload(**changes: Any) -> bytes:
    """Returns the value of the full document's record with some fields changed."""
    return json.dumps({**json.loads(value_of(RECORD)), **changes}).encode()
