"""What Kafka refuses for good is named; everything else that Kafka answers is waited for, with what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from aiokafka import errors as aio
from kafka import KafkaAdminClient
from kafka import errors as sync

from agents.delivery.outcome import Outcome, Output
from infra.kafka import read_all
from infra.kafka.aio import KafkaLookup, KafkaPublisher, KafkaTopicReader, _unreachable
from infra.kafka.client import translated
from infra.local.free_port import free_port
from infra.memory.kafka import MemoryKafka
from schemas.envelope import Received, Record
from schemas.errors import ConfigurationError, EverlearnError, InvalidEvent, RecordRefused, Unavailable
from schemas.event import Event
from schemas.interactions import InteractionRecorded
from schemas.kafka import KafkaConnection
from tests.agents.delivery.rig import DEAD_LETTERS, Rig, feedback

HERE = KafkaConnection(bootstrap_servers="127.0.0.1:9092")
LIMIT = 20_000


def record(topic: str, value: bytes, key: bytes = b"k") -> Record:
    return Record(topic=topic, key=key, value=value, headers=())


@pytest.fixture
def narrow_topic(kafka_config: KafkaConnection, make_topic: Callable[..., str]) -> str:
    """A topic that takes records of at most ``LIMIT`` bytes, as an administrator may have made it."""
    name = make_topic("narrow") + "-limited"
    admin = KafkaAdminClient(bootstrap_servers=kafka_config.bootstrap_servers)
    settings = {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": str(LIMIT)}}
    admin.create_topics({name: settings})
    admin.close()
    return name


async def test_a_record_that_is_too_large_for_its_topic_is_refused_and_the_publisher_goes_on(
    kafka_config: KafkaConnection, narrow_topic: str
):
    publisher = KafkaPublisher(kafka_config)
    await publisher.publish([record(narrow_topic, b"before")])
    for _ in range(2):
        with pytest.raises(RecordRefused, match=rf"30,000 bytes for {narrow_topic}: set max.message.bytes"):
            await publisher.publish([record(narrow_topic, b"x" * 30_000), record(narrow_topic, b"beside")])
    await publisher.publish([record(narrow_topic, b"after")])
    await publisher.close()
    values = [each.value for each in await asyncio.to_thread(lambda: list(read_all(kafka_config, [narrow_topic])))]
    assert (values[0], values[-1]) == (b"before", b"after")


async def test_a_record_that_is_too_large_for_the_client_is_refused(kafka_config: KafkaConnection, narrow_topic: str):
    publisher = KafkaPublisher(kafka_config)
    with pytest.raises(RecordRefused, match=r"set max\.message\.bytes"):
        await publisher.publish([record(narrow_topic, b"x" * 20_000_000), record(narrow_topic, b"beside")])
    await publisher.publish([record(narrow_topic, b"after")])
    await publisher.close()


async def test_an_output_that_its_topic_refuses_becomes_a_dead_letter_and_blocks_nothing(
    kafka_config: KafkaConnection, narrow_topic: str
):
    publisher = KafkaPublisher(kafka_config)
    rig = Rig(kafka=_DeadLettersApart(publisher, narrow_topic))

    async def handle(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return [_outcome(received) for received in batch]

    await rig.delivery(handle).deliver([feedback(n) for n in range(6)])
    await publisher.close()
    (letter,) = rig.dead_letters()
    assert (letter["error"], letter["offset"]) == ("RecordRefused", "2")
    found = await asyncio.to_thread(lambda: list(read_all(kafka_config, [narrow_topic])))
    assert {each.key for each in found} == {b"a0", b"a1", b"a3", b"a4", b"a5"}


class _DeadLettersApart(MemoryKafka):
    """Sends to one topic of a real Kafka, and keeps dead letters in memory."""

    def __init__(self, publisher: KafkaPublisher, topic: str) -> None:
        super().__init__()
        self._publisher, self._topic = publisher, topic

    async def publish(self, records: Sequence[Record]) -> None:
        self.records += [each for each in records if each.topic == DEAD_LETTERS]
        others = [replace(each, topic=self._topic) for each in records if each.topic != DEAD_LETTERS]
        await self._publisher.publish(others)


def _outcome(received: Received[Event]) -> Outcome:
    size = 30_000 if received.event.key == "a2" else 10
    fact = InteractionRecorded(answer_id=received.event.key, outcome="pending", revision=1, adapter_id="x" * size)
    return Outcome(outputs=[Output(event=fact)])


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (aio.KafkaConnectionError("refused"), "does not answer"),
        (aio.KafkaTimeoutError(), "does not answer"),
        (aio.RequestTimedOutError(), "does not answer"),
        (aio.NotEnoughReplicasError(), "has too few replicas in sync .*: start its other brokers"),
        (aio.NotEnoughReplicasAfterAppendError(), "has too few replicas in sync"),
        (aio.UnknownTopicOrPartitionError(), "lacks a topic .*: 'everlearn up' creates the topics"),
        (aio.TopicAuthorizationFailedError("answers.v1"), "does not allow this .*answers.v1.*: ask for the rights"),
        (aio.GroupAuthorizationFailedError("indexer"), "does not allow this .*indexer"),
        (aio.ClusterAuthorizationFailedError(), "ask for the right of idempotent writes"),
        (aio.SaslAuthenticationFailed(), r"refuses the credentials .*check \[kafka\] sasl_username"),
        (aio.PolicyViolationError("no"), "has a policy against this"),
        (aio.KafkaStorageError(), "does not answer"),
        (aio.UnknownError(), "does not answer"),
        (OSError(24, "Too many open files"), "Too many open files"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_each_error_of_a_workers_client_is_unavailable_with_what_to_do(error: Exception, says: str):
    failure = _unreachable(HERE, error)
    assert type(failure) is Unavailable
    with pytest.raises(Unavailable, match=says):
        raise failure


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (sync.KafkaTimeoutError(), Unavailable, "does not answer"),
        (sync.NotEnoughReplicasError(), Unavailable, "does not answer"),
        (sync.ThrottlingQuotaExceededError(), Unavailable, "does not answer"),
        (sync.KafkaStorageError(), Unavailable, "does not answer"),
        (sync.UnknownTopicOrPartitionError(), ConfigurationError, "lacks a topic"),
        (sync.TopicAuthorizationFailedError(), ConfigurationError, "does not allow this"),
        (sync.SaslAuthenticationFailedError(), ConfigurationError, "refuses the credentials"),
        (sync.PolicyViolationError("no"), ConfigurationError, "does not allow such a topic"),
        (sync.InvalidReplicationFactorError("3 > 1"), ConfigurationError, "3 > 1.*set .kafka. replication_factor"),
        (sync.MessageSizeTooLargeError(), InvalidEvent, "takes no record that large"),
        (sync.RecordListTooLargeError(), InvalidEvent, "takes no record that large"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else "",
)
def test_each_error_of_a_commands_client_has_its_class(error: Exception, raised: type[EverlearnError], says: str):
    with pytest.raises(raised, match=says) as caught:
        raise translated(error, HERE)
    assert type(caught.value) is raised


async def test_a_broker_that_is_not_there_is_unavailable_to_each_part_of_a_worker():
    nowhere = KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port()}")
    lookup = KafkaLookup(nowhere)
    for use in (
        KafkaPublisher(nowhere).publish([record("answers.v1", b"x")]),
        anext(KafkaTopicReader(nowhere).follow("promotions.v1")),
        lookup.bounds([("answers.v1", 0)]),
        lookup.first("answers.v1", 0, 0),
    ):
        with pytest.raises(Unavailable, match=r"does not answer .*: start it, or correct \[kafka\] bootstrap_servers"):
            await use
