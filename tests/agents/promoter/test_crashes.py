"""There is one history, whatever crashes, is delivered twice, or runs at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from schemas.delivery import Message
from schemas.event import Event
from schemas.release_state import ReleaseChange
from tests.agents.promoter.room import TASK, Killed, Room, promotion, rollback, validated
from tests.fixtures.sql import Stores, memory_stores

STEPS = ("begun", "handled", "committed", "published", "marked", "finished")


def story(room: Room) -> list[list[Message]]:
    """Batches that lead through a canary, a promotion, a canary that waited, a rollback and a requested promotion."""

    def batch(*events: Event) -> list[Message]:
        return [room.message(event) for event in events]

    def good(sequence: int) -> Event:
        room.answer("champion", "approved", 30, sequence=sequence)
        return room.answer("challenger", "approved", 30, sequence=sequence)

    room.register("a", "b", "c")
    return [
        batch(validated("a"), validated("b")),
        batch(good(1)),
        batch(good(2)),
        batch(rollback()),
        batch(promotion("c"), rollback(), rollback(), validated("b")),
    ]


async def undisturbed() -> list[ReleaseChange]:
    room = Room(memory_stores())
    for batch in story(room):
        await room.deliver(*batch)
    return list(room.releases.history(TASK))


async def test_the_story_is_what_it_seems():
    assert [(each.release.champion, each.release.challenger) for each in reversed(await undisturbed())] == [
        (None, "a"),
        (None, "a"),
        ("a", None),
        ("a", "b"),
        ("a", None),
        ("c", None),
        ("a", None),
        (None, None),
    ]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("at", range(5))
async def test_a_kill_between_any_two_steps_changes_nothing(step: str, at: int):
    room = Room(memory_stores())
    for number, batch in enumerate(story(room)):
        if number == at:
            room.kill_at = step
            with pytest.raises(Killed):
                await room.deliver(*batch)
            room.begin_life()
        await room.deliver(*batch)
    assert list(room.releases.history(TASK)) == await undisturbed()
    assert [event.sequence for event in room.published()] == list(range(1, 9))
    assert room.dead_letters() == []


async def test_everything_delivered_twice_is_done_once(stores: Stores):
    room = Room(stores)
    batches = story(room)
    for batch in batches:
        await room.deliver(*batch, *batch)
        room.begin_life()
        await room.deliver(*batch)
    for batch in batches:
        await room.deliver(*batch)
    assert list(room.releases.history(TASK)) == await undisturbed()
    assert [event.sequence for event in room.published()] == list(range(1, 9))


def at_once(rooms: Sequence[Room], batches: Sequence[Sequence[Message]]) -> None:
    """Each room delivers its batches, all rooms at the same time."""
    start = Barrier(len(rooms))

    def run(room: Room, mine: Sequence[Message]) -> None:
        async def deliver() -> None:
            for message in mine:
                await room.deliver(message)

        start.wait(30)
        asyncio.run(deliver())

    with ThreadPoolExecutor(len(rooms)) as pool:
        for future in [pool.submit(run, room, mine) for room, mine in zip(rooms, batches, strict=True)]:
            future.result(60)


async def test_two_promoters_that_see_the_same_ratings_decide_once(stores: Stores):
    room = Room(stores)
    other = Room(stores, registry=room.registry, kafka=room.kafka)
    await room.deliver(validated("a"))
    for _ in range(2):
        room.answer("champion", "approved", 30)
        recorded = [room.message(room.answer("challenger", "approved", 30)) for _ in range(4)]
        await asyncio.to_thread(at_once, [room, other], [recorded[:2], recorded[2:]])
    assert room.names() == ["CanaryStarted", "CanaryAdvanced", "AdapterPromoted"]


async def test_promoters_that_change_the_same_tasks_at_once_lose_no_sequence(stores: Stores):
    rooms = [Room(stores)]
    rooms += [Room(stores, registry=rooms[0].registry, kafka=rooms[0].kafka) for _ in range(2)]
    tasks = ("routing", "support", "triage")
    adapters = [f"{task}-{number}" for task in tasks for number in range(12)]
    for adapter_id in adapters:
        rooms[0].register(adapter_id, task=adapter_id.partition("-")[0])
    wanted = [rooms[0].message(promotion(each, each.partition("-")[0])) for each in adapters]
    # each promoter goes through the tasks in another order
    await asyncio.to_thread(at_once, rooms, [wanted[::3], wanted[1::3][::-1], wanted[2::3]])
    for task in tasks:
        history = rooms[0].releases.history(task)
        assert [each.release.sequence for each in history] == list(range(12, 0, -1))
        assert {each.release.champion for each in history} == {each for each in adapters if each.startswith(task)}
    assert len(rooms[0].published()) == len(adapters)


async def test_batches_over_several_tasks_do_not_block_each_other(stores: Stores):
    """Promoters that lock tasks one after the other may wait for each other."""
    rooms = [Room(stores)]
    rooms.append(Room(stores, registry=rooms[0].registry, kafka=rooms[0].kafka))
    tasks = [f"task{number}" for number in range(8)]
    for task in tasks:
        rooms[0].register(f"{task}-a", f"{task}-b", task=task)
    batches = [
        [rooms[0].message(promotion(f"{task}-{name}", task)) for task in order]
        for name, order in (("a", tasks), ("b", tasks[::-1]))
    ]

    def run(room: Room, batch: list[Message], start: Barrier) -> None:
        start.wait(30)
        asyncio.run(room.delivery.deliver(batch))

    start = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(run, *each, start) for each in zip(rooms, batches, strict=True)]:
            future.result(60)
    assert [rooms[0].current(task).sequence for task in tasks] == [2] * 8
    assert all(room.delivery.waiting is None for room in rooms)
