"""What every stream must do, whatever reads Kafka: the behaviour that the delivery recipe relies on, as tests.

A second implementation of ``agents.delivery.ports.MessageStream`` is held to it by one more factory in ``STREAMS`` of
``test_stream_on_kafka.py``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from aiokafka import AIOKafkaProducer

from agents.delivery.ports import MessageLookup, MessageStream
from infra.kafka.aio import KafkaLookup
from schemas.delivery import Message
from schemas.kafka import KafkaConnection
from schemas.topics import retry_topic

AGENT = "reader"
SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What a factory makes a stream of."""

    config: KafkaConnection
    topic: str
    lookup: MessageLookup
    scratch: Path
    deliver: Callable[[Sequence[Message]], Awaitable[None]]
    on_assigned: Callable[[Collection[tuple[str, int]]], None]
    on_acked: Callable[[Sequence[Message]], None]
    batch_size: int = 1
    batch_bytes: int = 1 << 20
    instance: str | None = None


MakeStream = Callable[[StreamOptions], MessageStream]
"""Makes a member of the group of ``AGENT``, with a session timeout of six seconds."""


class Reading:
    """A member that keeps what it was given."""

    def __init__(
        self,
        make: MakeStream,
        config: KafkaConnection,
        topic: str,
        scratch: Path,
        *,
        batch_size: int = 1,
        batch_bytes: int = 1 << 20,
        instance: str | None = None,
        during: Callable[[Sequence[Message]], Awaitable[None]] | None = None,
    ) -> None:
        """``during``: called with each batch before it counts as delivered; it may raise, or take long."""
        self.batches: list[list[Message]] = []
        self.acked: list[int] = []
        self.assignments = 0
        self._during = during
        self.lookup = KafkaLookup(config)
        self.stream = make(
            StreamOptions(
                config=config, topic=topic, lookup=self.lookup, scratch=scratch, deliver=self._deliver,
                on_assigned=self._assigned, on_acked=self._acked, batch_size=batch_size, batch_bytes=batch_bytes,
                instance=instance,
            )
        )  # fmt: skip

    @property
    def messages(self) -> list[Message]:
        return [message for batch in self.batches for message in batch]

    @property
    def delivered(self) -> list[int]:
        return [message.position.offset for message in self.messages]

    async def __aenter__(self) -> Self:
        await self.stream.start()
        await self.stream.assigned.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.stream.stop(SECONDS)  # what it may not commit in time would be delivered again
        await self.lookup.close()

    async def until(self, done: Callable[[], bool]) -> None:
        """Waits, and asks for the lag as a worker's heartbeat does."""
        async with asyncio.timeout(SECONDS):
            while not done():
                await self.stream.lag()
                await asyncio.sleep(0.2)

    async def until_offset(self, last: int) -> None:
        await self.until(lambda: last in self.delivered)

    async def _deliver(self, messages: Sequence[Message]) -> None:
        if self._during is not None:
            await self._during(messages)
        self.batches.append(list(messages))

    def _assigned(self, _: object) -> None:
        self.assignments += 1

    def _acked(self, messages: Sequence[Message]) -> None:
        self.acked += [message.position.offset for message in messages]


@asynccontextmanager
async def producer_of(config: KafkaConnection, **options: str) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=config.bootstrap_servers, **options) as producer:
        yield producer


async def publish(config: KafkaConnection, topic: str, *counts: int, transactional: bool = False) -> None:
    """Publishes as many messages as ``counts`` say. With ``transactional``, each count is a transaction of its own."""
    identity = {"transactional_id": f"{topic}-writer"} if transactional else {}
    async with producer_of(config, **identity) as producer:
        for count in counts:
            if transactional:
                await producer.begin_transaction()
            for _ in range(count):
                await producer.send_and_wait(topic, b"x", partition=0)
            if transactional:
                await producer.commit_transaction()


class StreamContract:
    """The behaviour, on a topic of one partition unless a test says otherwise. Subclass it; give it ``make_stream``."""

    async def test_messages_arrive_once_in_order_and_as_they_were_sent(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        sent = [(b"k", b"v", [("h", b"1"), ("h", b"2")]), (None, b"\xff", []), (b"k", None, []), (b"", b"", [])]
        async with producer_of(kafka_config) as producer:
            for key, value, headers in sent:
                await producer.send_and_wait(topic, value, key=key, headers=headers, partition=0)
        async with Reading(make_stream, kafka_config, topic, tmp_path, batch_size=3) as reading:
            await reading.until_offset(3)
            assert await reading.stream.lag() == 0
        found = [(message.key, message.value, list(message.headers)) for message in reading.messages]
        assert found == sent
        assert reading.delivered == reading.acked == [0, 1, 2, 3]

    async def test_what_was_delivered_is_not_delivered_to_the_next_member(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        await publish(kafka_config, topic, 3)
        async with Reading(make_stream, kafka_config, topic, tmp_path) as first:
            await first.until_offset(2)
        await publish(kafka_config, topic, 2)
        async with Reading(make_stream, kafka_config, topic, tmp_path) as second:
            await second.until_offset(4)
        assert second.delivered == [3, 4]

    async def test_a_batch_that_fails_ends_the_stream_and_is_delivered_to_the_next_member(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        async def fail(messages: Sequence[Message]) -> None:
            if messages[0].position.offset == 2:
                raise RuntimeError("a fault")

        await publish(kafka_config, topic, 5)
        async with asyncio.timeout(SECONDS), Reading(make_stream, kafka_config, topic, tmp_path, during=fail) as first:
            with pytest.raises(RuntimeError, match="a fault"):
                await first.stream.crashed
        assert first.delivered == first.acked == [0, 1]
        async with Reading(make_stream, kafka_config, topic, tmp_path) as second:
            await second.until_offset(4)
        assert second.delivered == [2, 3, 4]

    async def test_a_batch_is_bounded_in_messages_and_in_bytes(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        async with producer_of(kafka_config) as producer:
            for size in (10, 10, 10, 10, 10, 100, 10, 10):
                await producer.send_and_wait(topic, b"x" * size, partition=0)
        async with Reading(make_stream, kafka_config, topic, tmp_path, batch_size=3, batch_bytes=50) as reading:
            await reading.until_offset(7)
        assert reading.delivered == list(range(8))
        for batch in reading.batches:
            assert len(batch) <= 3
            assert sum(len(message.value or b"") for message in batch[:-1]) < 50

    async def test_an_idle_stream_delivers_a_message_at_once_and_does_not_wait_for_a_full_batch(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        async with Reading(make_stream, kafka_config, topic, tmp_path, batch_size=100) as reading:
            for offset in range(3):
                await publish(kafka_config, topic, 1)
                await reading.until_offset(offset)
        assert [len(batch) for batch in reading.batches] == [1, 1, 1]

    async def test_messages_of_the_retry_topic_arrive_too(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        await publish(kafka_config, retry_topic(topic, AGENT), 1)
        async with Reading(make_stream, kafka_config, topic, tmp_path) as reading:
            await reading.until_offset(0)
        assert reading.messages[0].position.topic == retry_topic(topic, AGENT)

    async def test_the_lag_counts_what_is_not_finished_and_a_stream_is_not_idle_meanwhile(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def wait(_: Sequence[Message]) -> None:
            begun.set()
            await goes_on.wait()

        await publish(kafka_config, topic, 4)
        async with Reading(make_stream, kafka_config, topic, tmp_path, during=wait) as reading:
            async with asyncio.timeout(SECONDS):
                await begun.wait()
            assert await reading.stream.lag() in (3, 4)  # the message that is being handled may count or not
            assert reading.stream.idle_seconds() == 0
            goes_on.set()
            await reading.until_offset(3)
            await reading.until(lambda: reading.stream.idle_seconds() > 0)
            assert await reading.stream.lag() == 0

    async def test_stopping_finishes_the_batch_that_has_begun_and_commits_it(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        begun = asyncio.Event()

        async def slowly(_: Sequence[Message]) -> None:
            begun.set()
            await asyncio.sleep(1)

        await publish(kafka_config, topic, 2)
        first = Reading(make_stream, kafka_config, topic, tmp_path, during=slowly)
        async with asyncio.timeout(SECONDS), first:
            await begun.wait()
        assert first.delivered == [0]
        async with Reading(make_stream, kafka_config, topic, tmp_path) as second:
            await second.until_offset(1)
        assert second.delivered == [1]

    async def test_stopping_takes_no_longer_than_allowed_and_leaves_the_unfinished_batch(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        begun, never = asyncio.Event(), asyncio.Event()

        async def hang(_: Sequence[Message]) -> None:
            begun.set()
            await never.wait()

        await publish(kafka_config, topic, 1)
        first = Reading(make_stream, kafka_config, topic, tmp_path, during=hang)
        await first.stream.start()
        async with asyncio.timeout(SECONDS):
            await begun.wait()
        began = time.monotonic()
        await first.stream.stop(1)
        assert time.monotonic() - began < SECONDS / 2
        await first.lookup.close()
        async with Reading(make_stream, kafka_config, topic, tmp_path) as second:
            await second.until_offset(0)

    async def test_a_stream_that_never_started_stops_at_once(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        reading = Reading(make_stream, kafka_config, topic, tmp_path)
        began = time.monotonic()
        await reading.close()
        assert time.monotonic() - began < 2, "a worker that still loads its model must stop at once"

    async def test_a_member_that_comes_back_under_its_name_continues_without_waiting_for_the_session(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        await publish(kafka_config, topic, 1)
        async with Reading(make_stream, kafka_config, topic, tmp_path, instance="reader-1") as first:
            await first.until_offset(0)
        await publish(kafka_config, topic, 1)
        async with Reading(make_stream, kafka_config, topic, tmp_path, instance="reader-1") as second:
            await second.until_offset(1)
        assert (first.delivered, second.delivered) == ([0], [1])
        assert second.assignments == 1

    async def test_two_members_share_the_partitions_and_one_takes_over_when_the_other_leaves(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, wide_topic: str, tmp_path: Path
    ) -> None:
        async def publish_to_all() -> None:
            async with producer_of(kafka_config) as producer:
                for partition in range(2):
                    await producer.send_and_wait(wide_topic, b"x", partition=partition)

        def partitions(reading: Reading) -> set[int]:
            return {message.position.partition for message in reading.messages}

        async with asyncio.timeout(2 * SECONDS), Reading(make_stream, kafka_config, wide_topic, tmp_path) as staying:
            async with Reading(make_stream, kafka_config, wide_topic, tmp_path) as leaving:
                while not (partitions(staying) and partitions(leaving)):
                    await publish_to_all()
                    await asyncio.sleep(0.5)
            seen = len(staying.messages)
            while {message.position.partition for message in staying.messages[seen:]} != {0, 1}:
                await publish_to_all()
                await asyncio.sleep(0.5)
            await staying.until(lambda: staying.stream.idle_seconds() > 1)
            assert await staying.stream.lag() == 0
        both = {message.position for reading in (staying, leaving) for message in reading.messages}
        ends = await _ends(kafka_config, wide_topic)
        assert len(both) == sum(ends), "every message was delivered"

    async def test_markers_of_transactions_are_passed_over_and_committed(
        self, make_stream: MakeStream, kafka_config: KafkaConnection, topic: str, tmp_path: Path
    ) -> None:
        await publish(kafka_config, topic, 2, 1, 3, transactional=True)
        async with Reading(make_stream, kafka_config, topic, tmp_path) as first:
            await first.until_offset(7)
        async with Reading(make_stream, kafka_config, topic, tmp_path) as second:
            await publish(kafka_config, topic, 1)
            await second.until_offset(9)
        assert first.delivered == [0, 1, 3, 5, 6, 7]
        assert second.delivered == [9], second.delivered


async def _ends(config: KafkaConnection, topic: str) -> list[int]:
    lookup = KafkaLookup(config)
    bounds = await lookup.bounds([(topic, number) for number in range(2)])
    await lookup.close()
    return [end for _, end in bounds.values()]
