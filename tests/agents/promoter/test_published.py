"""Releases that promotions.v1 has lost are published again, and no others."""

from __future__ import annotations

from datetime import timedelta

import pytest

from infra.memory.kafka import MemoryKafka
from tests.agents.promoter.room import Room, promotion, validated
from tests.fixtures.sql import Stores


@pytest.fixture
def room(stores: Stores) -> Room:
    room = Room(stores)
    room.register("a1", "a2")
    room.register("b1", task="support")
    return room


async def _ticks(room: Room, count: int) -> None:
    for _ in range(count):
        room.now += timedelta(seconds=5)
        await room.evaluate()


def _state(room: Room) -> dict[str, tuple[str, int, str | None]]:
    return {event.task: (type(event).__name__, event.sequence, event.champion) for event in room.published()}


async def test_what_the_topic_has_is_not_published_again(room: Room):
    await room.deliver(promotion("a1"), validated("b1", task="support"))
    await _ticks(room, 5)
    assert room.names() == ["AdapterPromoted", "CanaryStarted"]


async def test_the_releases_are_published_once_on_a_new_kafka(room: Room):
    await room.deliver(promotion("a1"))
    await room.deliver(promotion("a2"), validated("b1", task="support"))
    before = _state(room)
    room.kafka = MemoryKafka()
    room.begin_life()
    await _ticks(room, 1)
    assert room.names() == [], "they may be on their way"
    await _ticks(room, 5)
    assert _state(room) == before
    assert sorted(room.names()) == ["AdapterPromoted", "CanaryStarted"]


async def test_a_topic_that_ends_with_an_earlier_release_gets_the_current_one(room: Room):
    await room.deliver(promotion("a1"))
    await room.deliver(promotion("a2"))
    first, second = room.kafka.records
    room.kafka.records[:] = [second, first]  # two promoters published out of order, and the topic keeps the last
    await _ticks(room, 3)
    records = room.kafka.topic("promotions.v1")
    assert len(records) == 3
    assert records[-1].value == second.value


async def test_a_home_without_releases_publishes_nothing(room: Room):
    await _ticks(room, 3)
    assert room.names() == []
