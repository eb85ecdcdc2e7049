"""Builds the AsyncAPI 3 document: the topic table and the events, for people and tools outside Python."""

from __future__ import annotations

import inspect

from schemas.envelope import CONTENT_TYPE, MAX_ATTRIBUTE_CHARACTERS
from schemas.event import Event, JsonObject
from schemas.topics import CLIENTS, EVENT_TYPES, MAX_RECORD_BYTES, TOPICS, Topic

CONTRACTS_VERSION = "1.0.0"
KAFKA_BINDING_VERSION = "0.5.0"
HEADERS = "CloudEventHeaders"
DAY_MS = 86_400_000


def asyncapi_document() -> JsonObject:
    """Returns the whole document. Its payloads are references to the JSON Schemas beside it."""
    return {
        "asyncapi": "3.0.0",
        "id": "urn:everlearn",
        "info": {
            "title": "Everlearn",
            "version": CONTRACTS_VERSION,
            "description": (
                "Events follow CloudEvents 1.0 in Kafka's binary content mode. A reader publishes an event that it "
                "cannot process to <topic>.<agent>.dlq. It reads events that are to be tried again from "
                "<topic>.<agent>.retry."
            ),
        },
        "defaultContentType": CONTENT_TYPE.decode(),
        "channels": {topic.name: _channel(topic) for topic in TOPICS},
        "operations": {name: operation for topic in TOPICS for name, operation in _operations(topic).items()},
        "components": {
            "messages": {name: _message(event) for name, event in EVENT_TYPES.items()},
            "schemas": {HEADERS: _headers()},
        },
    }


def _channel(topic: Topic) -> JsonObject:
    configuration: JsonObject = {
        "cleanup.policy": ["compact"] if topic.compacted else ["delete"],
        "max.message.bytes": MAX_RECORD_BYTES,
    }
    if not topic.compacted:
        configuration["retention.ms"] = topic.retention_days * DAY_MS
    return {
        "address": topic.name,
        "messages": {event.type: {"$ref": f"#/components/messages/{event.type}"} for event in topic.events},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": KAFKA_BINDING_VERSION,
            }
        },
        "x-key": topic.key,
    }


def _operations(topic: Topic) -> dict[str, JsonObject]:
    """Returns an operation for the writer, and one for each reader and follower."""
    writer = topic.writer.replace(" ", "-")
    if topic.writer == CLIENTS:
        summary = "Only people and other programs write to this topic."
    elif topic.writer.startswith("every"):
        summary = f"{topic.writer.capitalize()} writes to this topic."
    else:
        summary = f"Only the {topic.writer} writes to this topic."
    operations = {f"{writer}-writes-{topic.name}": _operation(topic, "send", summary)}
    for reader in topic.readers:
        operation = _operation(topic, "receive", f"The {reader} processes each event once.")
        group = {"type": "string", "const": f"everlearn-{reader}"}
        operation["bindings"] = {"kafka": {"groupId": group, "bindingVersion": KAFKA_BINDING_VERSION}}
        operations[f"{reader}-reads-{topic.name}"] = operation
    for follower in topic.followers:
        summary = f"Each {follower} reads the whole topic, without a consumer group."
        operations[f"{follower}-follows-{topic.name}"] = _operation(topic, "receive", summary)
    return operations


def _operation(topic: Topic, action: str, summary: str) -> JsonObject:
    channel = f"#/channels/{topic.name}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "messages": [{"$ref": f"{channel}/messages/{event.type}"} for event in topic.events],
    }


def _message(event: type[Event]) -> JsonObject:
    return {
        "name": event.type,
        "title": event.__name__,
        "summary": (inspect.getdoc(event) or "").splitlines()[0],
        "contentType": CONTENT_TYPE.decode(),
        "correlationId": {"location": "$message.header#/ce_correlationid"},
        "headers": {
            "allOf": [
                {"$ref": f"#/components/schemas/{HEADERS}"},
                {"type": "object", "properties": {"ce_type": {"const": event.type}}},
            ]
        },
        "payload": {"$ref": f"json/{event.type}.json"},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "The same as ce_partitionkey, in UTF-8."},
                "bindingVersion": KAFKA_BINDING_VERSION,
            }
        },
    }


def _headers() -> JsonObject:
    text = {"type": "string", "minLength": 1, "maxLength": MAX_ATTRIBUTE_CHARACTERS}
    properties = {
        "content-type": {"type": "string", "description": CONTENT_TYPE.decode()},
        "ce_specversion": {"const": "1.0"},
        "ce_id": text | {"description": "Unique within its source. A record that is sent twice keeps its id."},
        "ce_source": text | {"pattern": r"^\S+$", "description": "The writer of the event, as a URI reference."},
        "ce_type": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time", "description": "When the fact happened."},
        "ce_partitionkey": {"type": "string", "description": "The record's key."},
        "ce_correlationid": text | {"description": "Id of the event that started the chain."},
        "ce_causationid": text | {"description": "Id of the event that caused this one."},
        "ce_traceparent": {"type": "string", "description": "W3C Trace Context."},
    }
    required = ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time"]
    return {"type": "object", "required": required, "properties": properties}
