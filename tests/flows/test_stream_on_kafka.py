"""The stream on a real broker: the contract that any stream must keep, and what is special about Faust.

Faust skips messages at some rebalances, and a member whose join was refused must join again. For example, a broker
answers a join with an error while it loads its groups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest.mock import Mock

import pytest
from aiokafka.consumer.group_coordinator import CoordinatorGroupRebalance
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError
from faust.types import TP

from agents.delivery.faust_app import StreamSettings
from agents.delivery.stream import Stream
from infra.kafka import create_topics
from infra.kafka.aio import KafkaLookup
from schemas.kafka import KafkaConnection
from schemas.topics import TopicSettings, retry_topic
from tests.flows.stream_contract import AGENT, MakeStream, Reading, StreamContract, StreamOptions, publish

pytestmark = pytest.mark.flow


def faust_stream(options: StreamOptions) -> Stream:
    return Stream(
        AGENT, [options.topic], options.deliver, batch_size=options.batch_size, batch_bytes=options.batch_bytes,
        scratch=options.scratch, lookup=options.lookup, instance=options.instance, on_assigned=options.on_assigned,
        on_acked=options.on_acked,
        settings=StreamSettings(kafka=options.config, commit_seconds=0.1, session_timeout_seconds=6.0),
    )  # fmt: skip


STREAMS: Mapping[str, MakeStream] = {"faust": faust_stream}
"""Every implementation of the stream. All are held to the contract."""


@pytest.fixture(params=STREAMS)
def make_stream(request: pytest.FixtureRequest) -> MakeStream:
    return STREAMS[request.param]


class TestStream(StreamContract):
    """Each stream keeps the contract."""


class FaustReading(Reading):
    """A member on Faust, whose own parts the tests below touch."""

    stream: Stream

    def __init__(self, config: KafkaConnection, topic: str, scratch: Path) -> None:
        super().__init__(faust_stream, config, topic, scratch)


@pytest.fixture
def topic(kafka_config: KafkaConnection, make_topic: Callable[..., str]) -> str:
    return _with_retries(kafka_config, make_topic("stream"))


@pytest.fixture
def wide_topic(kafka_config: KafkaConnection, make_topic: Callable[..., str]) -> str:
    """A topic of two partitions."""
    return _with_retries(kafka_config, make_topic("stream", partitions=2))


def _with_retries(config: KafkaConnection, name: str) -> str:
    retries = TopicSettings(name=retry_topic(name, AGENT), partitions=1, compacted=False, retention_days=1)
    create_topics(config, [retries])
    return name


@pytest.mark.parametrize(("skipped_to", "more"), [(8, 5), (7, 2)], ids=["others follow", "nothing follows"])
async def test_messages_that_the_consumer_skips_are_delivered_in_order(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path, skipped_to: int, more: int
) -> None:
    await publish(kafka_config, topic, 5)
    async with FaustReading(kafka_config, topic, tmp_path) as reading:
        await reading.until_offset(4)
        await reading.stream._app.consumer.seek(TP(topic, 0), skipped_to)
        await publish(kafka_config, topic, more)
        await reading.until_offset(4 + more)
        assert await reading.stream.lag() == 0
    assert reading.delivered == list(range(5 + more))


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
    async with FaustReading(kafka_config, topic, tmp_path) as reading:
        consumer = reading.stream._app.consumer
        for question in ("earliest_offsets", "highwaters"):
            monkeypatch.setattr(consumer, question, Mock(side_effect=AssertionError(question)))
        await publish(kafka_config, topic, 3)
        await reading.until_offset(2)
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
    async with asyncio.timeout(60), FaustReading(kafka_config, topic, tmp_path) as reading:
        assert left == []
        await reading.until_offset(1)
        assert not reading.stream.ended()
    assert reading.delivered == [0, 1]


async def test_a_member_whose_rejoin_fails_continues_or_ends(
    kafka_config: KafkaConnection, topic: str, tmp_path: Path, refused: Callable[..., list[Exception]]
) -> None:
    async with asyncio.timeout(60), FaustReading(kafka_config, topic, tmp_path) as reading:
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
    reading = FaustReading(kafka_config, topic, tmp_path)
    async with asyncio.timeout(60):
        joining = asyncio.ensure_future(reading.__aenter__())
        try:
            await asyncio.sleep(0)
            with pytest.raises(GroupAuthorizationFailedError):
                await reading.stream.crashed
        finally:
            joining.cancel()
            await reading.__aexit__()
