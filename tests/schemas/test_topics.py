"""The topic table has the topics, writers, readers and keys that the design asks for."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from schemas.documents import DocumentSubmitted, IndexRebuildRequested
from schemas.envelope import encode
from schemas.event import MAX_DOCUMENT_CHARACTERS
from schemas.topics import (
    BULK_DOCUMENTS,
    BY_NAME,
    CLIENTS,
    EVENT_TYPES,
    MAX_RECORD_BYTES,
    TOPIC_OF,
    TOPICS,
    all_topics,
    dead_letter_topic,
    origin_topic,
    retry_topic,
)
from tests.schemas.payloads import NOW, context, golden_events, value_of

AGENTS = {"indexer", "loader", "answerer", "recorder", "monitor", "trainer", "validator", "promoter", "quantizer"}
READS = {
    "indexer": {"documents.v1", "requests.v1"},
    "loader": {"documents.bulk.v1"},
    "answerer": {"questions.v1"},
    "recorder": {"answers.v1", "feedback.v1", "examples.v1"},
    "monitor": {"interactions.v1", "requests.v1"},
    "trainer": {"drift.v1", "requests.v1"},
    "validator": {"adapters.v1"},
    "promoter": {"validations.v1", "requests.v1", "interactions.v1"},
    "quantizer": {"models.v1"},
}
WRITES = {
    "indexer": {"indexing.v1"},
    "answerer": {"answers.v1"},
    "recorder": {"interactions.v1"},
    "monitor": {"drift.v1"},
    "trainer": {"adapters.v1"},
    "validator": {"validations.v1"},
    "promoter": {"promotions.v1"},
    "quantizer": {"quantizations.v1"},
    CLIENTS: {
        "documents.v1",
        "documents.bulk.v1",
        "questions.v1",
        "feedback.v1",
        "examples.v1",
        "requests.v1",
        "models.v1",
    },
    "every agent": {"fleet.v1"},
}


def test_each_event_belongs_to_one_topic_and_has_a_unique_type():
    events = [event for topic in TOPICS if topic.name != BULK_DOCUMENTS for event in topic.events]
    assert len(events) == len(set(events)) == len(TOPIC_OF) == len({event.type for event in events}) == len(EVENT_TYPES)


def test_the_bulk_topic_has_the_same_events_and_is_never_the_default():
    assert BY_NAME[BULK_DOCUMENTS].events == BY_NAME["documents.v1"].events
    assert {TOPIC_OF[event].name for event in BY_NAME[BULK_DOCUMENTS].events} == {"documents.v1"}


def test_topic_names_are_unique():
    assert len(BY_NAME) == len(TOPICS)


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_types_name_an_entity_a_fact_and_a_version(event_type):
    assert re.fullmatch(r"everlearn\.[a-z]+(-[a-z]+)*\.[a-z]+(-[a-z]+)*\.v1", event_type)


def test_each_agent_reads_what_the_design_says():
    found = {agent: {topic.name for topic in TOPICS if agent in topic.readers} for agent in AGENTS}
    assert found == READS


def test_each_topic_has_the_writer_of_the_design():
    found = {writer: {topic.name for topic in TOPICS if topic.writer == writer} for writer in WRITES}
    assert found == WRITES
    assert {topic.writer for topic in TOPICS} == set(WRITES)


def test_only_agents_read_and_follow_topics():
    for topic in TOPICS:
        assert {*topic.readers, *topic.followers} <= AGENTS
        assert len({*topic.readers, *topic.followers}) == len(topic.readers) + len(topic.followers)


def test_followed_topics_are_compacted_and_no_group_consumes_a_compacted_topic():
    assert {topic.name for topic in TOPICS if topic.compacted} == {"promotions.v1", "fleet.v1"}
    for topic in TOPICS:
        assert topic.compacted or not topic.followers
        assert not (topic.compacted and topic.readers)
    assert set(BY_NAME["promotions.v1"].followers) == {"answerer", "monitor", "validator", "promoter"}


def test_all_events_of_an_answer_are_in_partitions_of_one_number():
    sizes = {BY_NAME[name].partitions for name in ("answers.v1", "feedback.v1", "interactions.v1")}
    assert len(sizes) == 1
    about_one_answer = [
        event
        for event in golden_events().values()
        if TOPIC_OF[type(event)].name in ("answers.v1", "feedback.v1", "interactions.v1")
    ]
    assert {event.key for event in about_one_answer} == {"q-1"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("everlearn.document.submitted.v1/minimal", "default/17"),
        ("everlearn.document.withdrawn.v1/full", "shop-eu/faq/returns-17"),
        ("everlearn.document.indexed.v1/full", "shop-eu/faq/returns-17"),
        ("everlearn.document.unindexed.v1/full", "shop-eu/faq/returns-17"),
        ("everlearn.question.asked.v1/full", "s-44"),
        ("everlearn.question.asked.v1/minimal", "q-1"),
        ("everlearn.example.submitted.v1/full", "routing"),
        ("everlearn.worker.reported.v1/full", "answerer-0"),
        ("everlearn.model.registered.v1/full", "smollm2-135m-instruct"),
        ("everlearn.model.quantized.v1/full", "smollm2-135m-instruct"),
    ],
)
def test_keys_are_those_of_the_design(name, key):
    assert golden_events()[name].key == key


def test_questions_without_a_session_are_partitioned_by_user():
    question = golden_events()["everlearn.question.asked.v1/full"].model_copy(update={"session": None})
    assert question.key == "user-8"


def test_task_topics_are_keyed_by_task():
    for topic in TOPICS:
        if topic.key == "task":
            for event in golden_events().values():
                if type(event) in topic.events:
                    # The index that tasks share belongs to no task.
                    assert event.key in ("routing", "support") or (isinstance(event, IndexRebuildRequested))


def test_every_reader_has_a_dead_letter_and_a_retry_topic():
    created = {topic.name: topic for topic in all_topics()}
    for topic in TOPICS:
        for reader in topic.readers:
            for name in (dead_letter_topic(topic.name, reader), retry_topic(topic.name, reader)):
                assert created[name].partitions == 1
                assert not created[name].compacted
                assert origin_topic(name) == topic.name
            assert created[dead_letter_topic(topic.name, reader)].retention_days > topic.retention_days


def test_every_topic_is_created_once_under_a_name_that_kafka_accepts():
    names = Counter(topic.name for topic in all_topics())
    assert set(names.values()) == {1}
    assert BY_NAME.keys() <= names.keys()
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name)
    # Kafka names a metric after a topic with dots as underscores, so two such names would collide.
    assert len({name.replace(".", "_") for name in names}) == len(names)


def test_an_unknown_topic_has_no_origin():
    for name in ("documents", "documents.v10", "documents.v1x", ""):
        with pytest.raises(KeyError):
            origin_topic(name)


def test_a_document_of_the_maximum_length_fits_into_a_record():
    document = DocumentSubmitted(document_id="1", text="🙂" * MAX_DOCUMENT_CHARACTERS, submitted_at=NOW)
    assert len(value_of(encode(document, context()))) < MAX_RECORD_BYTES
