"""Any record of any topic in words: an event's data, or the reason why it is none."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from agents.cli.dead_letters import HANDLED, HOW
from agents.cli.output import one_line, printable
from agents.delivery.dead_letters import PREFIX
from infra.kafka import StoredRecord
from schemas.envelope import MalformedRecord, decode
from schemas.topics import EVENT_TYPES


def describe_record(record: StoredRecord, *, now: datetime) -> dict[str, Any]:
    """A record for programs. ``data`` is there when it is an event of its topic, ``error`` and ``value`` otherwise."""
    fields: dict[str, Any] = {
        "topic": record.position.topic,
        "partition": record.position.partition,
        "offset": record.position.offset,
        "time": record.time.isoformat(),
        "key": _text(record.key),
    }
    headers = dict(record.headers)
    if HANDLED in headers:
        return fields | {"handled": _text(headers[HANDLED]), "how": _text(headers.get(HOW))}
    circumstances = {
        name.removeprefix(PREFIX): _text(value) for name, value in headers.items() if name.startswith(PREFIX)
    }
    if circumstances:
        fields["dead_letter"] = circumstances
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


def sentence(fields: dict[str, Any], width: int) -> str:
    """The same for people, on one line."""
    time = datetime.fromisoformat(fields["time"]).astimezone().strftime("%H:%M:%S.%f")[:-3]
    key = one_line(fields["key"] or "–", 40)
    if "handled" in fields:
        rest = f"({fields['how']}: {fields['handled']})"
    elif "error" in fields:
        rest = f"not an event: {fields['error']}: {fields['value']}"
    else:
        rest = f"{event_name(fields['type'])} {json.dumps(fields['data'], ensure_ascii=False)}"
    if "dead_letter" in fields:
        letter = fields["dead_letter"]
        rest = f"[{letter.get('error')}: {letter.get('message')}] {rest}"
    return printable(f"{time}  {fields['partition']}:{fields['offset']}  {key}  {one_line(rest, width)}")


def event_name(kind: str) -> str:
    """``DocumentSubmitted`` of ``everlearn.document.submitted.v1``."""
    return EVENT_TYPES[kind].__name__ if kind in EVENT_TYPES else kind


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", errors="backslashreplace") if value is not None else None
