"""Our wire format and CloudEvents' own library read each other's messages, with the same attributes."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event, to_binary_event
from cloudevents.core.v1.event import CloudEvent

from schemas.envelope import EventContext, decode, encode
from schemas.topics import TOPIC_OF
from tests.schemas.payloads import NOW, context, golden_events, golden_payloads, key_of

EVENTS = golden_events()
PAYLOADS = golden_payloads()
ALPHABET = "aZ09-._~ /#?&=%\"'\\\t\nßé語🙂\u00a0\u2028"
ROUNDS = 40


def random_context(dice: random.Random) -> EventContext:
    def text() -> str:
        return "".join(dice.choices(ALPHABET, k=dice.randint(1, 60)))

    def sometimes(value: str) -> str | None:
        return value if dice.random() < 0.7 else None

    trace, span = dice.getrandbits(128), dice.getrandbits(64)
    return context(
        id=text(),
        source="/" + "".join(text().split()),
        time=NOW - timedelta(microseconds=dice.randrange(10**16)),
        correlation_id=sometimes(text()),
        causation_id=sometimes(text()),
        traceparent=sometimes(f"00-{trace:032x}-{span:016x}-01"),
    )


@pytest.mark.parametrize("name", EVENTS)
def test_the_library_decodes_what_we_encode(name):
    dice = random.Random(name)
    for _ in range(ROUNDS):
        sent, event = random_context(dice), EVENTS[name]
        record = encode(event, sent)
        theirs = from_binary_event(
            KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value or b"")
        )
        assert theirs.get_specversion() == "1.0"
        assert theirs.get_id() == sent.id
        assert theirs.get_source() == sent.source
        assert theirs.get_type() == event.type
        assert theirs.get_time() == sent.time
        assert theirs.get_datacontenttype() == "application/json"
        assert theirs.get_extension("partitionkey") == event.key == key_of(record).decode()
        assert theirs.get_extension("correlationid") == sent.correlation_id
        assert theirs.get_extension("causationid") == sent.causation_id
        assert theirs.get_extension("traceparent") == sent.traceparent
        assert type(event).model_validate(theirs.get_data()) == event


@pytest.mark.parametrize("name", EVENTS)
def test_we_decode_what_the_library_encodes(name):
    dice = random.Random(name)
    event_class, payload = PAYLOADS[name]
    for _ in range(ROUNDS):
        sent, event = random_context(dice), EVENTS[name]
        attributes = {
            "specversion": "1.0",
            "id": sent.id,
            "source": sent.source,
            "type": event.type,
            # The library keeps the offset that it was given.
            "time": sent.time.astimezone(timezone(timedelta(minutes=dice.randrange(-720, 840)))),
            "datacontenttype": "application/json",
            "partitionkey": event.key,
            "correlationid": sent.correlation_id,
            "causationid": sent.causation_id,
            "traceparent": sent.traceparent,
        }
        present = {key: value for key, value in attributes.items() if value is not None}
        message = to_binary_event(CloudEvent(present, json.loads(json.dumps(payload))))
        topic = TOPIC_OF[event_class].name
        assert decode(topic, message.value, message.headers.items(), now=NOW) == (event, sent)
        ours = encode(event, sent)
        assert message.key == key_of(ours).decode()
        assert message.headers.keys() == dict(ours.headers).keys()


def test_we_read_times_as_the_library_does():
    event = EVENTS["everlearn.question.asked.v1/minimal"]
    record = encode(event, context())
    for text in ("2026-03-02T09:15:27Z", "2026-03-02T09:15:27+00:00", "2026-03-02T14:45:27.25+05:30"):
        headers = {**dict(record.headers), "ce_time": text.encode()}
        theirs = from_binary_event(KafkaMessage(headers=headers, key=record.key, value=record.value or b"")).get_time()
        ours = decode(record.topic, record.value, headers.items(), now=NOW)[1].time
        assert isinstance(theirs, datetime)
        assert ours == theirs.astimezone(UTC)
