"""A follower reads all events of a compacted topic, then new ones. It skips malformed ones, and waits for Kafka."""

from __future__ import annotations

import asyncio
import errno

import pytest
from structlog.testing import capture_logs

from agents.delivery.follow import follow
from agents.delivery.worker import Follower
from infra.memory.kafka import MemoryKafka
from schemas.envelope import Received, Record, encode, new_context
from schemas.errors import EngineCrashed, Unavailable
from schemas.event import Event
from schemas.promotions import AdapterPromoted
from tests.agents.delivery.rig import START, Clock


class Followed:
    """Runs a follower, and notes the sequences of the events that it applies."""

    def __init__(self, kafka: MemoryKafka, faults: dict[int, Exception] | None = None) -> None:
        """``faults``: what happens when an event of that sequence is applied."""
        self.seen: list[int] = []
        self.faults = faults or {}
        self.caught_up = asyncio.Event()

        async def apply(received: Received[Event]) -> None:
            assert isinstance(received.event, AdapterPromoted)
            if received.event.sequence in self.faults:
                raise self.faults[received.event.sequence]
            self.seen.append(received.event.sequence)

        follower = Follower(topic="promotions.v1", apply=apply)
        clock = Clock()
        self.task = asyncio.ensure_future(
            follow(follower, kafka, clock=clock, caught_up=self.caught_up, sleep=clock.sleep)
        )

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.seen) < count:  # noqa: ASYNC110  # the follower sends no signal
                await asyncio.sleep(0)


def promotion(sequence: int) -> Record:
    event = AdapterPromoted(task="routing", sequence=sequence, champion=f"adapter-{sequence}")
    return encode(event, new_context("/tests", now=START))


@pytest.fixture
def kafka() -> MemoryKafka:
    return MemoryKafka()


async def test_a_follower_has_caught_up_once_all_existing_events_are_applied(kafka: MemoryKafka) -> None:
    await kafka.publish([promotion(1), promotion(2)])
    followed = Followed(kafka)
    await asyncio.wait_for(followed.caught_up.wait(), 5)
    assert followed.seen == [1, 2]
    followed.task.cancel()


async def test_a_follower_of_an_empty_topic_has_caught_up_at_once_and_applies_later_events(kafka: MemoryKafka) -> None:
    followed = Followed(kafka)
    await asyncio.wait_for(followed.caught_up.wait(), 5)
    await kafka.publish([promotion(1)])
    await followed.until(1)
    followed.task.cancel()


async def test_a_follower_skips_a_malformed_message(kafka: MemoryKafka) -> None:
    broken = Record(topic="promotions.v1", key=b"routing", value=b"nonsense", headers=())
    await kafka.publish([promotion(1), broken, promotion(2)])
    followed = Followed(kafka)
    await followed.until(2)
    assert followed.seen == [1, 2]
    followed.task.cancel()


async def test_a_follower_starts_again_after_kafka_was_away(kafka: MemoryKafka) -> None:
    await kafka.publish([promotion(1)])
    kafka.away = True
    followed = Followed(kafka)
    for _ in range(50):
        await asyncio.sleep(0)
    assert followed.seen == []
    kafka.away = False
    await followed.until(1)
    followed.task.cancel()


async def test_an_event_that_cannot_be_applied_is_logged_and_those_behind_it_are_applied(kafka: MemoryKafka) -> None:
    await kafka.publish([promotion(number) for number in (1, 2, 3)])
    with capture_logs() as logs:
        followed = Followed(kafka, {2: ValueError("a defect")})
        await asyncio.wait_for(followed.caught_up.wait(), 5)
    assert followed.seen == [1, 3]
    assert [(line["event"], line["error"]) for line in logs] == [("not applied", "ValueError: a defect")]
    followed.task.cancel()


@pytest.mark.parametrize(
    "trouble", [Unavailable("the disk is full"), OSError(errno.ENOSPC, "full"), EngineCrashed("it died")], ids=repr
)
async def test_trouble_while_an_event_is_applied_is_waited_for(kafka: MemoryKafka, trouble: Exception) -> None:
    await kafka.publish([promotion(number) for number in (1, 2, 3)])
    followed = Followed(kafka, {2: trouble})
    for _ in range(50):
        await asyncio.sleep(0)
    assert 3 not in followed.seen
    followed.faults.clear()
    await asyncio.wait_for(followed.caught_up.wait(), 5)
    assert followed.seen[-2:] == [2, 3]
    followed.task.cancel()
