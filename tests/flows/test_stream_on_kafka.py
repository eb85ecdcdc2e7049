"""The stream on a real broker: messages that Faust skips are fetched, and a member whose join fails joins again.

For example, a broker answers a join with an error while it loads its groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from faust.types import TP

from agents.delivery.faust_app import StreamSettings
from agents.delivery.stream import Stream
from infra.kafka import create_topics
from infra.kafka.aio import KafkaLookup
from schemas.delivery import Message
from schemas.kafka import KafkaConnection
from schemas.topics import TopicSettings, retry_topic

pytestmark = pytest.mark.flow
AGENT = "reader"


class Reading:
    """Reads a topic of one partition with a stream, one message at a time."""

    def __init__(self, config: KafkaConnection, topic: str, scratch: Path) -> None:
        self.delivered: list[int] = []
        self._topic, self._scratch = topic, scratch
        self._config = config

    async def __aenter__(self) -> Reading:
        self._lookup = KafkaLookup(self._config)
        self.stream = Stream(
            AGENT, [self._topic], self._deliver, batch_size=1, batch_bytes=1 << 20, scratch=self._scratch,
            settings=StreamSettings(kafka=self._config, commit_seconds=0.1),
            lookup=self._lookup,
        )  # fmt: skip
        await self.stream.start()
        await self.stream.assigned.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stream.stop(10)
        await self._lookup.close()

    async def _deliver(self, messages: Sequence[Message]) -> None:
        self.delivered += [message.position.offset for message in messages]

    async def until(self, last: int, seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while last not in self.delivered:
                await self.stream.lag()
                await asyncio.sleep(0.5)


@pytest.fixture
def topic(kafka_config: KafkaConnection, make_topic: Callable[..., str]) -> str:
    name = make_topic("stream")
    retries = TopicSettings(name=retry_topic(name, AGENT), partitions=1, compacted=False, retention_days=1)
    create_topics(kafka_config, [retries])
    return name


async def publish(config: KafkaConnection, topic: str, *counts: int, transactional: bool = False) -> None:
    """Publishes as many messages as ``counts`` say. With ``transactional``, each count is a transaction of its own."""
    identity = {"transactional_id": f"{topic}-writer"} if transactional else {}
    async with AIOKafkaProducer(bootstrap_servers=config.bootstrap_servers, **identity) as producer:
        for count in counts:
            if transactional:
                await producer.begin_transaction()
            for _ in range(count):
                await producer.send_and_wait(topic, b"x", partition=0)
            if transactional:
                await producer.commit_transaction()


@pytest.mark.parametrize(("skipped_to", "more"), [(8, 5), (7, 2)], ids=["others follow", "nothing follows"])
async def test_messages_that_the_consumer_skips_are_delivered_in_order(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path, skipped_to: int, more: int
) -> None:
    await publish(kafka_config, topic, 5)
    async with Reading(kafka_config, topic, tmp_path) as reading:
        await reading.until(4)
        await reading.stream._app.consumer.seek(TP(topic, 0), skipped_to)
        await publish(kafka_config, topic, more)
        await reading.until(4 + more)
        assert await reading.stream.lag() == 0
    assert reading.delivered == list(range(5 + more))


async def test_markers_of_transactions_are_skipped_and_committed(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path
) -> None:
    await publish(kafka_config, topic, 2, 1, 3, transactional=True)
    async with Reading(kafka_config, topic, tmp_path) as reading:
        await reading.until(7)
    async with Reading(kafka_config, topic, tmp_path) as again:
        await publish(kafka_config, topic, 1)
        await again.until(9)
    assert reading.delivered == [0, 1, 3, 5, 6, 7]
    assert again.delivered == [9]


async def test_the_lookup_finds_existing_messages(kafka_config: KafkaConnection, topic: str) -> None:
    await publish(kafka_config, topic, 2, 1, transactional=True)
    lookup = KafkaLookup(kafka_config)
    assert [await lookup.first(topic, 0, offset) for offset in range(5)] == [0, 1, 3, 3, 5]
    assert await lookup.bounds([(topic, 0)]) == {(topic, 0): (0, 5)}
    await lookup.close()


async def test_offsets_are_never_requested_from_the_fetching_consumer(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On that consumer, the requests would wait for its fetches, and the fetches for the requests."""
    async with Reading(kafka_config, topic, tmp_path) as reading:
        consumer = reading.stream._app.consumer
        for question in ("earliest_offsets", "highwaters"):
            monkeypatch.setattr(consumer, question, Mock(side_effect=AssertionError(question)))
        await publish(kafka_config, topic, 3)
        await reading.until(2)
        assert await reading.stream.lag() == 0
    assert reading.delivered == [0, 1, 2]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Exception]]:
    """Makes joins fail with these errors, one after the other. Later joins succeed."""
    join = CoordinatorGroupRebalance.perform_group_join

    def refuse(*errors: Exception) -> list[Exception]:
        left = list(errors)

        async def answered(self: CoordinatorGroupRebalance) -> object:
            if left:
                raise left.pop(0)
            return await join(self)

        monkeypatch.setattr(CoordinatorGroupRebalance, "perform_group_join", answered)
        return left

    return refuse


async def test_a_member_whose_join_fails_joins_again(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path, refused: Callable[..., list[Exception]]
) -> None:
    await publish(kafka_config, topic, 2)
    left = refused(KafkaError("UnknownError()"), KafkaError("UnknownError()"))
    async with asyncio.timeout(60), Reading(kafka_config, topic, tmp_path) as reading:
        assert left == []
        await reading.until(1)
        assert not reading.stream.ended()
    assert reading.delivered == [0, 1]


async def test_a_member_whose_rejoin_fails_continues_or_ends(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path, refused: Callable[..., list[Exception]]
) -> None:
    async with asyncio.timeout(60), Reading(kafka_config, topic, tmp_path) as reading:
        left = refused(KafkaError("UnknownError()"))
        thread = reading.stream._app.consumer._thread
        thread.thread_loop.call_soon_threadsafe(thread._consumer._coordinator.request_rejoin)
        await publish(kafka_config, topic, 2)
        while not (reading.stream.ended() or reading.delivered == [0, 1]):
            await reading.stream.lag()
            await asyncio.sleep(0.5)
    assert left == []


async def test_a_permanent_error_ends_the_stream(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path, refused: Callable[..., list[Exception]]
) -> None:
    refused(GroupAuthorizationFailedError("everlearn-reader"))
    reading = Reading(kafka_config, topic, tmp_path)
    async with asyncio.timeout(60):
        joining = asyncio.ensure_future(reading.__aenter__())
        try:
            await asyncio.sleep(0)
            with pytest.raises(GroupAuthorizationFailedError):
                await reading.stream.crashed
        finally:
            joining.cancel()
            await reading.__aexit__()
