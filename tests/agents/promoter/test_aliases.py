"""The registry's aliases follow the releases, and delay nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from infra.memory.registry import MemoryRegistry
from tests.agents.promoter.room import Room, good_stage, promotion, rollback, validated


@pytest.fixture
def room(stores) -> Room:
    return Room(stores)


async def test_the_registrys_aliases_follow_and_are_repaired(room: Room):
    room.register("a", "b")
    await room.deliver(promotion("a"))
    await room.deliver(validated("b"))
    await room.tick(await room.promoter.set_aliases(room.now))
    assert aliases(room.registry) == {"a": ("champion",), "b": ("challenger",)}
    await room.deliver(rollback())
    room.registry.away = True
    room.now += timedelta(seconds=5)
    await room.tick(await room.promoter.set_aliases(room.now))
    room.registry.away = False
    room.now += timedelta(seconds=5)
    await room.tick(await room.promoter.set_aliases(room.now))
    assert aliases(room.registry) == {"a": ("champion",), "b": ()}
    room.registry.set_aliases("routing", champion="b", challenger=None)
    room.now += timedelta(minutes=5)
    await room.tick(await room.promoter.set_aliases(room.now))
    assert aliases(room.registry) == {"a": ("champion",), "b": ()}


async def test_aliases_are_repaired_also_after_the_clock_was_put_back(room: Room):
    room.register("a", "b")
    await room.deliver(promotion("a"))
    await room.tick(await room.promoter.set_aliases(room.now))
    room.registry.set_aliases("routing", champion="b", challenger=None)
    room.now -= timedelta(days=1)
    await room.tick(await room.promoter.set_aliases(room.now))
    assert aliases(room.registry) == {"a": ("champion",), "b": ()}


async def test_a_registry_that_is_away_holds_up_no_canary(room: Room):
    room.registry.away = True
    await room.deliver(validated("a"))
    await good_stage(room)
    await good_stage(room)
    await room.deliver(rollback())
    assert len(room.published()) == 4


def aliases(registry: MemoryRegistry) -> dict[str, tuple[str, ...]]:
    return {each.adapter_id: each.aliases for each in registry.adapters()}
