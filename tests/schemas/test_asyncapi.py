"""The AsyncAPI document matches the topic table, and each of its references has a target."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.asyncapi import asyncapi_document
from schemas.envelope import encode
from schemas.generate import FOLDER
from schemas.topics import EVENT_TYPES, MAX_RECORD_BYTES, TOPIC_OF, TOPICS
from tests.schemas.payloads import context, golden_events

DOCUMENT = asyncapi_document()


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def target(reference: str) -> Any:
    file, _, pointer = reference.partition("#")
    node = json.loads((FOLDER / file).read_text()) if file else DOCUMENT
    for part in pointer.strip("/").split("/") if pointer else ():
        node = node[part]
    return node


def test_every_reference_has_a_target():
    found = set(references(DOCUMENT))
    assert len(found) > 60
    for reference in found:
        assert isinstance(target(reference), dict)


def test_each_event_is_a_message_with_its_payload_and_headers():
    messages = DOCUMENT["components"]["messages"]
    assert messages.keys() == EVENT_TYPES.keys()
    for name, message in messages.items():
        assert target(message["payload"]["$ref"])["title"] == EVENT_TYPES[name].__name__ == message["title"]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_each_topic_is_a_channel_with_its_kafka_settings(topic):
    channel = DOCUMENT["channels"][topic.name]
    kafka = channel["bindings"]["kafka"]
    assert channel["address"] == kafka["topic"] == topic.name
    assert kafka["partitions"] == topic.partitions
    configuration = kafka["topicConfiguration"]
    assert configuration["cleanup.policy"] == (["compact"] if topic.compacted else ["delete"])
    assert configuration.get("retention.ms") == (None if topic.compacted else topic.retention_days * 24 * 3600 * 1000)
    assert configuration["max.message.bytes"] == MAX_RECORD_BYTES
    assert set(channel["messages"]) == {event.type for event in topic.events}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_operations_say_who_writes_and_who_reads(topic):
    channel = f"#/channels/{topic.name}"
    mine = {name: each for name, each in DOCUMENT["operations"].items() if each["channel"]["$ref"] == channel}
    expected = {f"{topic.writer.replace(' ', '-')}-writes-{topic.name}"}
    expected |= {f"{reader}-reads-{topic.name}" for reader in topic.readers}
    expected |= {f"{follower}-follows-{topic.name}" for follower in topic.followers}
    assert mine.keys() == expected
    for name, operation in mine.items():
        assert operation["action"] == ("send" if "-writes-" in name else "receive")
        assert ("bindings" in operation) == ("-reads-" in name)
        assert {each["$ref"] for each in operation["messages"]} == {
            f"{channel}/messages/{event.type}" for event in topic.events
        }
    for reader in topic.readers:
        group = mine[f"{reader}-reads-{topic.name}"]["bindings"]["kafka"]["groupId"]
        assert group["const"] == f"everlearn-{reader}"


def test_there_are_no_other_channels_and_operations():
    assert set(DOCUMENT["channels"]) == {topic.name for topic in TOPICS}
    assert {each["channel"]["$ref"] for each in DOCUMENT["operations"].values()} == {
        f"#/channels/{topic.name}" for topic in TOPICS
    }


@pytest.mark.parametrize("name", golden_events())
def test_headers_that_we_write_match_their_schema(name):
    event = golden_events()[name]
    message = DOCUMENT["components"]["messages"][event.type]
    validator = Draft202012Validator({**message["headers"], "components": DOCUMENT["components"]})
    headers = {header: value.decode() for header, value in encode(event, context()).headers}
    validator.validate(headers)
    assert not validator.is_valid({**headers, "ce_type": "other"})
    assert not validator.is_valid({**headers, "ce_source": "a b"})
    assert not validator.is_valid({header: value for header, value in headers.items() if header != "ce_id"})
    known = DOCUMENT["components"]["schemas"]["CloudEventHeaders"]["properties"]
    assert headers.keys() == known.keys()


def test_each_message_is_in_the_channel_of_its_topic():
    for event, topic in TOPIC_OF.items():
        reference = DOCUMENT["channels"][topic.name]["messages"][event.type]["$ref"]
        assert target(reference)["name"] == event.type
