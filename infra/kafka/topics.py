"""Creates the topics of the topic table in Kafka, and counts their records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from infra.kafka.client import MAX_BATCH_BYTES, REQUEST_SECONDS, connect, speaking
from schemas.delivery import KafkaTopic
from schemas.errors import ConfigurationError, Unavailable
from schemas.kafka import KafkaConnection
from schemas.topics import SEGMENT_DAYS, TopicSettings, all_topics

if TYPE_CHECKING:
    from kafka import KafkaAdminClient

DAY_MS = 24 * 60 * 60 * 1000
CREATE_SECONDS = 60.0
_NO_ID = str(UUID(int=0))


def create_topics(config: KafkaConnection, topics: Iterable[TopicSettings] | None = None) -> list[str]:
    """Creates the missing topics and returns their names. Safe to repeat, also from two processes at once.

    Raises ConfigurationError when a topic exists with another number of partitions, Unavailable without Kafka.
    """
    from kafka import KafkaAdminClient, errors

    wanted = {topic.name: topic for topic in (all_topics() if topics is None else topics)}
    with (
        connect(KafkaAdminClient, config, request_timeout_ms=int(CREATE_SECONDS * 1000)) as admin,
        speaking(config),
    ):
        there = _partitions(admin)
        missing = {name: _request(topic, config) for name, topic in wanted.items() if name not in there}
        if missing:
            answer = admin.create_topics(missing, timeout_ms=int(CREATE_SECONDS * 1000), raise_errors=False)
            for topic in answer["topics"]:
                failure = errors.for_code(topic["error_code"])
                if failure not in (errors.NoError, errors.TopicAlreadyExistsError):
                    raise failure(f"{topic['name']}: {topic.get('error_message') or failure.__name__}")
            admin.wait_for_topics(list(missing), timeout_ms=int(CREATE_SECONDS * 1000))
            there = _partitions(admin)
    for name, topic in wanted.items():
        if there.get(name) != topic.partitions:
            raise ConfigurationError(
                f"the topic {name} at {config.bootstrap_servers} has {there.get(name)} partitions instead of "
                f"{topic.partitions}, and counts are fixed: use another Kafka, or delete that topic there"
            )
    return sorted(missing)


def record_counts(config: KafkaConnection, topics: Iterable[str]) -> dict[str, int]:
    """Returns how many records each topic holds, by its offsets; leaves out missing topics.

    For a compacted topic the number is an upper bound.
    """
    from kafka import KafkaConsumer, TopicPartition

    timeout = int(REQUEST_SECONDS * 1000)
    consumer = connect(KafkaConsumer, config, group_id=None, enable_auto_commit=False, request_timeout_ms=timeout)
    try:
        with speaking(config):
            present = consumer.topics()
            partitions = [
                TopicPartition(name, number)
                for name in topics
                if name in present
                for number in sorted(consumer.partitions_for_topic(name))
            ]
            if not partitions:
                return {}
            first, after = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    finally:
        consumer.close()
    counts: dict[str, int] = {}
    for partition in partitions:
        counts[partition.topic] = counts.get(partition.topic, 0) + after[partition] - first[partition]
    return counts


class KafkaTopicLookup:
    """Asks Kafka for the ids of topics. Connects for each question."""

    def __init__(self, config: KafkaConnection) -> None:
        self._config = config

    def topics(self, names: Sequence[str]) -> list[KafkaTopic]:
        """Returns the topics of these names. Raises Unavailable, also where one does not exist.

        Kafka before 2.8 gives topics no ids. A topic that is made anew there cannot be told from the one before.
        """
        from kafka import KafkaAdminClient, errors

        timeout = int(REQUEST_SECONDS * 1000)
        with connect(KafkaAdminClient, self._config, request_timeout_ms=timeout) as admin, speaking(self._config):
            cluster = str(admin.describe_cluster()["cluster_id"])
            described = admin.describe_topics(list(names))
        found = {}
        for each in described:
            if errors.for_code(each["error_code"]) is errors.UnknownTopicOrPartitionError:
                raise Unavailable(f"there is no topic {each['name']}: 'everlearn up' creates the topics")
            topic_id = str(each.get("topic_id") or _NO_ID)
            topic_id = cluster if topic_id == _NO_ID else topic_id
            found[each["name"]] = KafkaTopic(name=each["name"], topic_id=topic_id, cluster_id=cluster)
        return [found[name] for name in names]


def _partitions(admin: KafkaAdminClient) -> dict[str, int]:
    return {each["name"]: len(each["partitions"]) for each in admin.describe_topics()}


def _request(topic: TopicSettings, config: KafkaConnection) -> dict[str, object]:
    settings = {"max.message.bytes": MAX_BATCH_BYTES}
    if topic.compacted:
        # Kafka never compacts the segment that it writes to, so start a new one every ten minutes and clean soon after.
        cleaning = {"cleanup.policy": "compact", "segment.ms": 10 * 60 * 1000, "min.cleanable.dirty.ratio": 0.1}
        return _with_replicas(topic, config, {**settings, **cleaning})
    keeping = {
        "cleanup.policy": "delete",
        "retention.ms": topic.retention_days * DAY_MS,
        "segment.ms": SEGMENT_DAYS * DAY_MS,
    }
    return _with_replicas(topic, config, {**settings, **keeping})


def _with_replicas(topic: TopicSettings, config: KafkaConnection, settings: dict[str, object]) -> dict[str, object]:
    return {
        "num_partitions": topic.partitions,
        "replication_factor": config.replication_factor,
        "configs": {name: str(value) for name, value in settings.items()},
    }
