"""Events survive the wire format, and outputs get their id and their chain from the event that caused them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.documents import DocumentSubmitted
from schemas.envelope import (
    Position,
    Received,
    decode,
    derived_id,
    encode,
    new_context,
    output_context,
)
from schemas.event import MAX_DOCUMENT_CHARACTERS
from schemas.learning import DriftDetected
from schemas.topics import dead_letter_topic, retry_topic
from tests.schemas.payloads import DOCUMENT, NOW, RECORD, context, document_payload, golden_events, key_of, read


def test_a_decoded_event_equals_the_encoded_one():
    assert read() == (DOCUMENT, context())


@pytest.mark.parametrize("name", golden_events())
def test_every_event_survives_the_wire_without_optional_attributes(name):
    event = golden_events()[name]
    bare = context(correlation_id=None, causation_id=None, traceparent=None)
    record = encode(event, bare)
    assert decode(record.topic, record.value, record.headers, now=NOW) == (event, bare)


@pytest.mark.parametrize(
    "text", ["plain", "Ärger & 返品 🙂", "tab\tnewline\n", 'quote"back\\slash', "é" * 512, "line\u2028"]
)
def test_unicode_in_ids_keys_and_headers_survives(text):
    event = DocumentSubmitted(document_id=text, text=text, submitted_at=NOW)
    sent = context(id=text[:256], correlation_id=text[:256], causation_id=text[:256])
    record = encode(event, sent)
    assert key_of(record).decode() == f"default/{text}"
    assert decode(record.topic, record.value, record.headers, now=NOW) == (event, sent)


def test_headers_of_other_systems_are_ignored():
    changed = [*RECORD.headers, ("x-trace", b"\xff\xfe"), ("b3", None), ("ce_unknown", "ü".encode())]
    assert decode(RECORD.topic, RECORD.value, changed, now=NOW) == (DOCUMENT, context())


@pytest.mark.parametrize("reader", ["indexer"])
def test_events_are_read_from_retry_and_dead_letter_topics(reader):
    for name in (dead_letter_topic, retry_topic):
        assert read(topic=name(RECORD.topic, reader))[0] == DOCUMENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"2026-03-02T09:15:27Z", datetime(2026, 3, 2, 9, 15, 27, tzinfo=UTC)),
        (b"2026-03-02t09:15:27z", datetime(2026, 3, 2, 9, 15, 27, tzinfo=UTC)),
        (b"2026-03-02T09:15:27+00:00", datetime(2026, 3, 2, 9, 15, 27, tzinfo=UTC)),
        (b"2026-03-02T14:45:27.5+05:30", datetime(2026, 3, 2, 9, 15, 27, 500_000, tzinfo=UTC)),
        (b"2026-03-02T09:15:27.123456789Z", datetime(2026, 3, 2, 9, 15, 27, 123_456, tzinfo=UTC)),
    ],
)
def test_times_of_rfc_3339_are_read_as_utc(text, expected):
    time = read(ce_time=text)[1].time
    assert time == expected
    assert time.tzinfo is UTC


def test_a_document_of_the_maximum_length_is_accepted():
    text = "語" * MAX_DOCUMENT_CHARACTERS
    assert read(value=document_payload(text=text))[0].text == text


@pytest.mark.parametrize(
    "trace", [b"", b"garbage", b"00-xyz-1-1", b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01"]
)
def test_an_invalid_traceparent_is_ignored(trace):
    assert read(ce_traceparent=trace)[1].traceparent is None


def test_evidence_keeps_its_null_values():
    drift = DriftDetected(task="t", kind="k", remedy="none", evidence={"p_value": None, "nested": {"a": None}})
    record = encode(drift, context())
    assert decode(record.topic, record.value, record.headers, now=NOW)[0] == drift


def test_an_outputs_id_depends_on_the_input_the_agent_and_the_ordinal():
    cause = context()
    first = output_context(cause, "indexer", 0, NOW)
    assert first == output_context(cause, "indexer", 0, NOW)
    others = [
        output_context(cause, "indexer", 1, NOW),
        output_context(cause, "recorder", 0, NOW),
        output_context(context(id="other"), "indexer", 0, NOW),
        output_context(context(source="/other"), "indexer", 0, NOW),
    ]
    assert len({first.id, *(other.id for other in others)}) == 5
    assert derived_id("a", "b") != derived_id("ab")


def test_an_output_keeps_the_chain_and_the_trace_of_its_cause():
    output = output_context(context(correlation_id=None), "indexer", 0, NOW)
    assert (output.correlation_id, output.causation_id) == (context().id, context().id)
    assert output.source == "/everlearn/indexer"
    assert output.traceparent is not None
    version, trace, span, flags = output.traceparent.split("-")
    assert (version, trace, flags) == ("00", "4bf92f3577b34da6a3ce929d0e0e4736", "01")
    assert span != "00f067aa0ba902b7"
    assert output_context(context(traceparent=None), "indexer", 0, NOW).traceparent is None


def test_the_context_of_a_new_chain_survives_encoding():
    sent = new_context("/everlearn/cli", now=NOW)
    record = encode(DOCUMENT, sent)
    assert decode(record.topic, record.value, record.headers, now=NOW)[1] == sent
    assert sent.id != new_context("/everlearn/cli", now=NOW).id
    assert new_context("/everlearn/cli", now=NOW, event_id="mine").id == "mine"


def test_different_pairs_of_source_and_id_have_different_identities():
    def identity(source: str, event_id: str) -> str:
        received = Received(
            event=DOCUMENT,
            context=context(source=source, id=event_id),
            position=Position(topic="documents.v1", partition=0, offset=0),
        )
        return received.identity

    assert identity("/a#b", "c") != identity("/a", "b#c")
    assert identity("/a", "b c") == "/a b c"
