"""Payloads of earlier versions stay readable, and one record's bytes never change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from schemas.envelope import decode, encode
from schemas.generate import event_schema
from schemas.questions import AnswerProduced
from schemas.topics import EVENT_TYPES, TOPIC_OF
from tests.schemas.payloads import GOLDEN, NOW, context, golden_events, golden_payloads, value_of

PAYLOADS = golden_payloads()
FULL_ANSWER = "everlearn.answer.produced.v1/full"


def test_each_event_has_a_file_of_golden_payloads_and_there_are_no_others():
    assert {path.stem for path in Path(GOLDEN).glob("*.json")} == set(EVENT_TYPES)


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_golden_payload_is_read_with_every_value(name):
    event_class, payload = PAYLOADS[name]
    headers = encode(golden_events()[name], context()).headers
    event, _ = decode(TOPIC_OF[event_class].name, json.dumps(payload).encode(), headers, now=NOW)
    written = event.model_dump(mode="json", exclude_unset=True)
    for moment in ("submitted_at", "deadline"):
        if moment in payload:
            assert getattr(event, moment) == type(event).model_validate(payload).__dict__[moment]
            written[moment] = payload[moment]
    assert written == payload if event_class.type != "everlearn.drift.detected.v1" else written.keys() == payload.keys()


@pytest.mark.parametrize("name", PAYLOADS)
def test_an_unknown_field_of_a_later_version_is_ignored(name):
    event_class, payload = PAYLOADS[name]
    headers = encode(golden_events()[name], context()).headers
    value = json.dumps({**payload, "added_in_a_later_version": {"a": [1]}}).encode()
    event, _ = decode(TOPIC_OF[event_class].name, value, headers, now=NOW)
    assert event == golden_events()[name]


@pytest.mark.parametrize("name", PAYLOADS)
def test_an_unknown_field_of_a_part_of_an_event_is_no_reason_to_refuse_it(name):
    event_class, payload = PAYLOADS[name]
    headers = encode(golden_events()[name], context()).headers
    event, _ = decode(
        TOPIC_OF[event_class].name, json.dumps(_with_more(payload, golden_events()[name])).encode(), headers, now=NOW
    )
    assert event == golden_events()[name]


def _with_more(value: Any, read: object) -> Any:
    """The value with a field more in each of its parts. ``read``: what a reader makes of it."""
    if isinstance(value, list) and isinstance(read, tuple):
        return [_with_more(each, part) for each, part in zip(value, read, strict=True)]
    if not isinstance(value, dict) or not isinstance(read, BaseModel):
        return value
    changed = {key: _with_more(each, getattr(read, key)) for key, each in value.items()}
    return {**changed, "added_in_a_later_version": "x"}


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_golden_payload_matches_the_json_schema_before_and_after_encoding(name):
    event_class, payload = PAYLOADS[name]
    validator = Draft202012Validator(event_schema(event_class))
    written = json.loads(value_of(encode(golden_events()[name], context())))
    assert not [*validator.iter_errors(payload), *validator.iter_errors(written)]


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_golden_payloads_name_every_field_of_their_event(event_type):
    named = {field for name, (_, payload) in PAYLOADS.items() if name.startswith(f"{event_type}/") for field in payload}
    assert named == set(EVENT_TYPES[event_type].model_fields)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_a_minimal_payload_has_only_required_fields(event_type):
    event_class, payload = PAYLOADS[f"{event_type}/minimal"]
    required = {field for field, info in event_class.model_fields.items() if info.is_required()}
    extra = payload.keys() - required
    assert extra == ({"rating"} if event_type == "everlearn.feedback.given.v1" else set())


def test_the_bytes_of_a_full_record_never_change():
    record = encode(golden_events()[FULL_ANSWER], context())
    assert record.topic == "answers.v1"
    assert record.key == b"q-1"
    assert record.headers == (
        ("content-type", b"application/json"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"0b1f4d0e-8a52-5a7e-9f13-0a6d2c9be001"),
        ("ce_source", b"/everlearn/cli"),
        ("ce_type", b"everlearn.answer.produced.v1"),
        ("ce_time", b"2026-03-02T09:15:27.250000Z"),
        ("ce_partitionkey", b"q-1"),
        ("ce_correlationid", b"chain-1"),
        ("ce_causationid", b"cause-1"),
        ("ce_traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    )
    assert record.value == (
        b'{"answer_id":"q-1","task":"support","question":"How long may I return shoes?","text":"30 days.","sources":['
        b'{"document_id":"faq/returns-17","chunk_id":"faq/returns-17:0","score":0.8125,'
        b'"text":"Returns are free within 30 days.","title":"Returns","uri":"https://shop.example/faq/returns#17",'
        b'"heading":"R\xc3\xbcckgabe > Fristen"},'
        b'{"document_id":"faq/shoes","chunk_id":"faq/shoes:2","score":-0.0625,"text":"Shoes run small."}],'
        b'"user":"user-8","session":"s-44","tenant":"shop-eu","base_model":"smollm2-135m-instruct",'
        b'"engine":"transformers","adapter_id":"lora-7c1f","release_sequence":12,"arm":"challenger",'
        b'"prompt_tokens":211,"completion_tokens":4,"latency_ms":412.5,"finish_reason":"length","declined":true}'
    )


def test_an_event_is_always_encoded_to_the_same_bytes():
    event = golden_events()[FULL_ANSWER]
    assert isinstance(event, AnswerProduced)
    again, read = decode("answers.v1", encode(event, context()).value, encode(event, context()).headers, now=NOW)
    assert encode(again, read) == encode(event, context())
