"""The wire format refuses malformed records, each with a clear message of one line."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.documents import DocumentSubmitted
from schemas.envelope import (
    MAX_CLOCK_SKEW,
    MalformedRecord,
)
from schemas.event import MAX_DOCUMENT_CHARACTERS
from schemas.topics import BULK_DOCUMENTS, BY_NAME, TOPICS
from tests.schemas.payloads import NOW, document_payload, read


def refusal(**changes: Any) -> str:
    with pytest.raises(MalformedRecord) as caught:
        read(**changes)
    message = str(caught.value)
    assert message.isprintable()
    assert 0 < len(message) < 2000
    return message


@pytest.mark.parametrize(
    "text",
    [
        b"yesterday",
        b"2026-03-02",
        b"2026-03-02T09:15:27",
        b"1772442927",
        b"2026-13-02T09:15:27Z",
        b"0001-01-01T00:00:00",
        b"0001-01-01T00:00:00+23:59",
        b"9999-12-31T23:59:59-23:59",
        b"2026-03-02T09:15:27Z\n\n",
    ],
)
def test_an_invalid_time_is_refused(text):
    assert "ce_time" in refusal(ce_time=text)


def test_an_event_from_the_future_is_refused_but_a_small_clock_skew_is_accepted():
    tolerated = (NOW + MAX_CLOCK_SKEW).isoformat().encode()
    assert read(ce_time=tolerated)[1].time == NOW + MAX_CLOCK_SKEW
    future = (NOW + MAX_CLOCK_SKEW + timedelta(seconds=1)).isoformat()
    assert "in the future; set the sender's clock" in refusal(ce_time=future.encode())
    assert refusal(value=document_payload(submitted_at=future)).startswith("submitted_at")


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "time"])
def test_a_missing_or_empty_attribute_is_named(name):
    for changes in ({"without": f"ce_{name}"}, {f"ce_{name}": None}, {f"ce_{name}": b""}):
        assert refusal(**changes) == f"the header ce_{name} is missing or empty"


def test_another_version_of_cloudevents_is_refused():
    assert refusal(ce_specversion=b"0.3") == "CloudEvents version 0.3 is not 1.0"


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_correlationid", "ce_anything"])
def test_a_header_that_is_not_utf_8_is_named(name):
    assert refusal(**{name: b"\xff\xfe"}) == f"the header {name} is not UTF-8"


@pytest.mark.parametrize("name", ["ce_id", "ce_source", "ce_correlationid", "ce_causationid"])
def test_an_attribute_that_sql_cannot_store_is_refused(name):
    assert "longer than 256" in refusal(**{name: b"a" * 257})
    assert "U+0000" in refusal(**{name: b"a\0b"})


def test_a_source_with_white_space_is_refused_so_that_identities_stay_unique():
    assert "white space" in refusal(ce_source=b"/my source")


@pytest.mark.parametrize("event_type", [b"x" * 100_000, "π\n".encode()])
def test_an_unknown_type_is_refused_with_the_types_that_the_topic_takes(event_type):
    message = refusal(ce_type=event_type)
    assert message.endswith("it takes everlearn.document.submitted.v1, everlearn.document.withdrawn.v1")


@pytest.mark.parametrize("event_type", [b"everlearn.document.submitted.v2", b"everlearn.document.shredded.v1"])
def test_a_type_that_only_a_newer_everlearn_knows_is_refused_with_the_advice_to_upgrade(event_type):
    message = refusal(ce_type=event_type)
    assert "it takes everlearn.document.submitted.v1" in message
    assert "a newer Everlearn may have written it: upgrade this one, then send it again with 'dlq retry'" in message


def test_an_event_of_another_topic_is_refused():
    for topic in BY_NAME.keys() - {"documents.v1", BULK_DOCUMENTS}:
        assert f"does not belong on {topic}" in refusal(topic=topic)


def test_an_unknown_topic_is_refused():
    assert refusal(topic="orders.v7") == "orders.v7 is not one of Everlearn's topics"


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_values_that_are_not_events_are_refused_on_every_topic(topic):
    for event in topic.events:
        for value in (None, b"", b"\xff\xfe\x00", b"not json", b"[]", b"null", b'"text"', b"1", b"{", b"[" * 100_000):
            assert refusal(topic=topic.name, value=value, ce_type=event.type.encode())


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "the value is empty"),
        (b"", "the value is empty"),
        (document_payload(text=None), "text: "),
        (document_payload(text="  \n "), "text: "),
        (
            document_payload(text="x" * (MAX_DOCUMENT_CHARACTERS + 1)),
            "text: String should have at most",
        ),
        (document_payload(tenant="a/b"), "tenant: "),
        (document_payload(document_id="a\0b"), "value: document_id holds the character U+0000"),
        (document_payload(metadata={"a": {"b": 1}}), "metadata.a."),
        (document_payload(metadata={"a\nb": [], "c" * 60: []}), "metadata.'a\\nb'."),
        (document_payload(metadata={"a": "b\0"}), "value: metadata holds the character U+0000"),
        (document_payload(metadata={"a": float("nan")}), "metadata.a."),
        (
            document_payload(submitted_at="0001-01-01T00:00:00+23:59"),
            "submitted_at: this moment lies outside",
        ),
        (document_payload(submitted_at="2026-03-02T09:15:27"), "submitted_at: "),
        (b'{"text": "\\ud800"}', "value: Invalid JSON"),
    ],
)
def test_a_wrong_field_is_named(value, expected):
    assert refusal(value=value).startswith(expected)


def test_a_message_lists_only_the_first_of_many_faults():
    assert refusal(value=document_payload(metadata={str(n): [] for n in range(60)})).endswith(" more")


def test_numbers_that_json_cannot_hold_are_refused_when_an_event_is_made():
    with pytest.raises(ValueError, match="finite"):
        DocumentSubmitted(document_id="1", text="x", metadata={"a": float("inf")}, submitted_at=NOW)


def test_too_large_metadata_is_refused():
    big = {"key": "x" * 20_000}
    with pytest.raises(ValidationError, match=r"more than 16,384 bytes"):
        DocumentSubmitted(document_id="d", text="t", submitted_at=NOW, metadata=big)
