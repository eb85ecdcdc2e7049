"""Finding the event that kills its process: how the next process handles the events that a crash interrupted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agents.delivery.outcome import Outcome
from schemas.delivery import Message
from schemas.envelope import Received
from schemas.event import Event
from tests.agents.delivery.rig import Rig, feedback


class Killed(BaseException):
    """Stands for the death of the process."""


@pytest.fixture
def rig() -> Rig:
    return Rig()


class Deadly:
    """A handler whose process dies when a batch contains a certain answer."""

    def __init__(self, rig: Rig, answer: str) -> None:
        self._rig = rig
        self._answer = answer
        self.batches: list[list[str]] = []

    async def __call__(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        self.batches.append([received.event.key for received in batch])
        if self._answer in self.batches[-1]:
            raise Killed
        return await self._rig.count(batch)


async def _lives(rig: Rig, handle: Deadly, messages: list[Message], most: int = 20) -> int:
    """Starts processes until one finishes the messages, and returns how many it took."""
    for life in range(1, most + 1):
        try:
            await rig.delivery(handle).deliver(messages)
        except Killed:
            continue
        return life
    raise AssertionError(f"all of {most} processes died")


async def test_a_killing_event_is_given_up_after_two_attempts_in_its_batch_and_three_alone(rig: Rig) -> None:
    handle = Deadly(rig, "a5")
    assert await _lives(rig, handle, [feedback(n) for n in range(10)]) == 6
    assert rig.counts() == {f"a{n}": 1 for n in range(10) if n != 5}
    (letter,) = rig.dead_letters()
    assert (letter["error"], letter["attempts"]) == ("ProcessKilled", "3")


async def test_after_a_crash_the_interrupted_events_are_handled_as_a_batch_before_others(rig: Rig) -> None:
    handle = Deadly(rig, "a2")
    with pytest.raises(Killed):
        await rig.delivery(handle).deliver([feedback(n) for n in range(4)])
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver([feedback(n) for n in range(8)])
    assert healthy.batches == [["a0", "a1", "a2", "a3"], ["a4", "a5", "a6", "a7"]]
    assert rig.dead_letters() == []


async def test_after_a_second_crash_the_interrupted_events_are_handled_one_at_a_time(rig: Rig) -> None:
    handle = Deadly(rig, "a2")
    for _ in range(2):
        with pytest.raises(Killed):
            await rig.delivery(handle).deliver([feedback(n) for n in range(4)])
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver([feedback(n) for n in range(8)])
    assert healthy.batches == [["a0"], ["a1"], ["a2"], ["a3"], ["a4", "a5", "a6", "a7"]]
    assert rig.dead_letters() == []


async def test_interrupted_events_that_arrive_in_parts_stay_marked_until_they_arrive(rig: Rig) -> None:
    handle = Deadly(rig, "a3")
    with pytest.raises(Killed):
        await rig.delivery(handle).deliver([feedback(n) for n in range(4)])
    second = rig.delivery(handle)
    await second.deliver([feedback(0), feedback(1)])
    with pytest.raises(Killed):
        await second.deliver([feedback(2), feedback(3), feedback(4)])
    assert handle.batches[1:] == [["a0", "a1"], ["a2", "a3"]]
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver([feedback(n) for n in range(5)])
    assert healthy.batches == [["a2"], ["a3"], ["a4"]]


async def test_after_a_crash_between_two_parts_the_second_part_is_handled_one_at_a_time(rig: Rig) -> None:
    with pytest.raises(Killed):
        await rig.delivery(Deadly(rig, "a3")).deliver([feedback(n) for n in range(4)])
    await rig.delivery(Deadly(rig, "nobody")).deliver([feedback(0), feedback(1)])  # then it is killed
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver([feedback(2), feedback(3), feedback(4)])
    assert healthy.batches == [["a2"], ["a3"], ["a4"]]


async def test_a_worker_that_takes_over_partitions_handles_their_interrupted_events_first(rig: Rig) -> None:
    survivor_handle = Deadly(rig, "nobody")
    survivor = rig.delivery(survivor_handle)
    survivors_marks = rig.in_flight
    await survivor.deliver([feedback(0)])
    with pytest.raises(Killed):
        await rig.delivery(Deadly(rig, "a2")).deliver([feedback(1), feedback(2)])
    survivors_marks.forget()
    await survivor.deliver([feedback(1), feedback(2)])
    assert survivor_handle.batches[1:] == [["a1", "a2"]]


async def test_a_worker_does_not_suspect_its_own_batches(rig: Rig) -> None:
    handle = Deadly(rig, "nobody")
    delivery = rig.delivery(handle)
    await delivery.deliver([feedback(0), feedback(1)])
    rig.in_flight.forget()
    await delivery.deliver([feedback(2), feedback(3)])
    assert handle.batches == [["a0", "a1"], ["a2", "a3"]]


async def test_redelivered_events_before_the_killing_event_do_not_hide_it(rig: Rig) -> None:
    handle = Deadly(rig, "a5")
    for _ in range(5):
        delivery = rig.delivery(handle)
        await delivery.deliver([feedback(n) for n in range(5)])
        with pytest.raises(Killed):
            await delivery.deliver([feedback(n) for n in range(5, 10)])
    delivery = rig.delivery(handle)
    await delivery.deliver([feedback(n) for n in range(5)])
    await delivery.deliver([feedback(n) for n in range(5, 10)])
    assert len(rig.dead_letters()) == 1


async def test_two_killing_events_in_one_batch_are_both_found(rig: Rig) -> None:
    class Both(Deadly):
        async def __call__(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
            keys = {received.event.key for received in batch}
            if keys & {"a1", "a3"}:
                raise Killed
            return await rig.count(batch)

    assert await _lives(rig, Both(rig, ""), [feedback(n) for n in range(5)]) == 9
    assert rig.counts() == {"a0": 1, "a2": 1, "a4": 1}
    assert len(rig.dead_letters()) == 2
