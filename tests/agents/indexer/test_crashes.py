"""The indexer reaches the state of an undisturbed run, wherever it died and whichever worker was faster."""

from __future__ import annotations

import itertools

import pytest

from schemas.errors import Unavailable
from tests.agents.indexer.room import START, STORY, Crash, Room, at, submitted, texts, withdrawn


@pytest.mark.parametrize("crash", ["before commit", "in commit", "after commit"])
@pytest.mark.parametrize("at_event", range(len(STORY)))
async def test_a_crash_anywhere_ends_in_the_state_of_an_undisturbed_run(crash: str, at_event: int) -> None:
    calm = Room()
    for event in STORY:
        await calm.deliver(event)
    room = Room()
    for number, event in enumerate(STORY):
        if number == at_event:
            with pytest.raises(Crash):
                await room.deliver(event, crash=crash)
        await room.deliver(event)
    room.sweep(START)
    assert room.picture() == calm.picture()


async def test_what_a_crash_left_of_a_batch_is_gone_when_the_events_come_in_other_batches() -> None:
    calm = Room()
    await calm.deliver(*STORY)
    for first, second in itertools.product(range(1, len(STORY) + 1), repeat=2):
        room = Room()
        with pytest.raises(Crash):
            await room.deliver(*STORY[:first], crash="before commit")
        with pytest.raises(Crash):
            await room.deliver(*STORY[:second], crash="in commit")
        await room.deliver(*STORY)
        assert room.picture() == calm.picture()


async def test_chunks_of_a_crashed_attempt_are_retired_when_a_newer_version_was_faster() -> None:
    room = Room()
    slow = submitted("a", 1, "slow")
    with pytest.raises(Crash):
        await room.deliver(slow, crash="before commit")
    await room.deliver(submitted("b", 2, "fast"))
    await room.deliver(slow)
    assert texts(room) == {"fast"}
    assert room.published_for("a").submitted_at == at(2)


async def test_a_worker_that_was_overtaken_between_upsert_and_commit_retires_its_own_version() -> None:
    room = Room()
    slow = submitted("a", 1, "slow")
    outcomes = await room.indexer.index([slow])
    await room.deliver(submitted("b", 2, "fast"))
    room.commit([(slow, outcomes[0])])
    room.sweep(START)
    assert texts(room) == {"fast"}


async def test_an_unchanged_text_that_another_worker_replaced_meanwhile_is_tried_again() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "text"))
    again = submitted("c", 3, "text")
    outcomes = await room.indexer.index([again])
    await room.deliver(submitted("b", 2, "other"))
    with pytest.raises(Unavailable, match="at the same time"):
        room.commit([(again, outcomes[0])])
    await room.deliver(again)
    assert texts(room) == {"text"}


async def test_a_vector_store_that_is_away_stops_the_batch_and_loses_nothing() -> None:
    room = Room()
    room.chunks.away = True
    with pytest.raises(Unavailable):
        await room.deliver(submitted("a", 1, "text"))
    room.chunks.away = False
    await room.deliver(submitted("a", 1, "text"))
    assert texts(room) == {"text"}


async def test_what_could_not_be_deleted_is_deleted_by_a_later_sweep() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "text"))
    with pytest.raises(Crash):
        await room.deliver(withdrawn("b", 2), crash="after commit")
    room.chunks.away = True
    with pytest.raises(Unavailable):
        room.sweep(START)
    room.chunks.away = False
    room.sweep(START)
    assert (texts(room), room.retired.list(10)) == (set(), [])


async def test_hundreds_of_retired_versions_are_swept_in_one_go() -> None:
    room = Room()
    for number in range(1300):
        room.retired.add("default", f"d{number}", f"v{number}", START)
    room.sweep(START)
    assert room.retired.list(10) == []
