"""Finding the event that kills its process: how the next process handles the events that a crash interrupted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from agents.delivery.outcome import Outcome
from schemas.delivery import Message
from schemas.envelope import Received
from schemas.errors import EngineCrashed, Unavailable
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


class Waiting(Deadly):
    """A handler of a worker that is stopped or killed while something is unavailable."""

    async def __call__(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        self.batches.append([received.event.key for received in batch])
        raise Unavailable("Milvus is away")


async def _killed(seconds: float) -> None:
    raise Killed


async def test_a_worker_that_is_killed_while_its_handler_waits_leaves_no_suspicion(rig: Rig) -> None:
    waiting, messages = Waiting(rig, ""), [feedback(n) for n in range(3)]
    for _ in range(10):
        with pytest.raises(Killed):
            await rig.delivery(waiting, sleep=_killed).deliver(messages)
    assert waiting.batches == [["a0", "a1", "a2"]] * 10
    await rig.delivery().deliver(messages)
    assert (rig.counts(), rig.dead_letters()) == ({"a0": 1, "a1": 1, "a2": 1}, [])


async def test_a_worker_that_is_stopped_in_a_batch_takes_its_marks_back(rig: Rig) -> None:
    handle, messages = Deadly(rig, "a1"), [feedback(n) for n in range(3)]
    for _ in range(10):
        delivery = rig.delivery(handle)  # its handler does not end, as when it is cancelled in the middle
        with pytest.raises(Killed):
            await delivery.deliver(messages)
        await rig.in_flight.take_back()
    assert handle.batches == [["a0", "a1", "a2"]] * 10
    await rig.delivery().deliver(messages)
    assert (rig.counts(), rig.dead_letters()) == ({"a0": 1, "a1": 1, "a2": 1}, [])


async def test_a_stop_takes_back_only_the_attempt_that_it_ended(rig: Rig) -> None:
    handle, messages = Deadly(rig, "a0"), [feedback(0)]
    for stopped in [False, True] * 4 + [False]:  # two deaths together and three alone, with stops in between
        with pytest.raises(Killed):
            await rig.delivery(handle).deliver(messages)
        if stopped:
            await rig.in_flight.take_back()
    await rig.delivery(handle).deliver(messages)
    (letter,) = rig.dead_letters()
    assert (letter["error"], letter["attempts"], len(handle.batches)) == ("ProcessKilled", "3", 9)


async def test_a_worker_that_ends_because_of_its_batch_keeps_its_marks(rig: Rig) -> None:
    handle, messages = Deadly(rig, "a0"), [feedback(0), feedback(1)]
    with pytest.raises(Killed):
        await rig.delivery(handle).deliver(messages)
    rig.in_flight.keep()
    await rig.in_flight.take_back()
    with pytest.raises(Killed):
        await rig.delivery(handle).deliver(messages)
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver(messages)
    assert healthy.batches == [["a0"], ["a1"]]


async def test_an_error_of_delivery_itself_leaves_its_events_suspicious(rig: Rig) -> None:
    async def fails(seconds: float) -> None:
        raise RuntimeError("a defect of delivery")

    async def crashes(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        raise EngineCrashed("it died")

    for _ in range(2):
        with pytest.raises(RuntimeError):
            await rig.delivery(crashes, sleep=fails).deliver([feedback(0)])
        await rig.in_flight.take_back()
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver([feedback(0), feedback(1)])
    assert healthy.batches == [["a0"], ["a1"]]


async def test_partitions_that_change_hands_during_a_slow_batch_make_no_event_suspicious(rig: Rig) -> None:
    messages = [feedback(0), feedback(1)]
    partition = [(messages[0].position.topic, 0)]
    owners = []
    for _ in range(8):
        slow = Deadly(rig, "a0")
        with pytest.raises(Killed):  # stands for a handler that is not done when the partition goes to another worker
            await rig.delivery(slow).deliver(messages)
        owners.append(rig.in_flight)
        await rig.in_flight.lose(partition)
        assert slow.batches == [["a0", "a1"]]
    await owners[0].begin([messages[1].position])  # the first owner goes on with its batch; it has no mark any more
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver(messages)
    assert (healthy.batches, rig.dead_letters()) == ([["a0", "a1"]], [])


async def test_a_worker_that_gets_a_lost_partition_back_marks_its_events_again(rig: Rig) -> None:
    messages = [feedback(0), feedback(1)]
    partition = [(messages[0].position.topic, 0)]
    await rig.delivery().deliver(messages[:1])
    await rig.in_flight.lose(partition)
    rig.in_flight.forget(partition)
    await rig.in_flight.begin([messages[1].position])
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver([messages[1], feedback(2)])
    assert healthy.batches == [["a1"], ["a2"]]


async def test_marks_of_a_topic_that_was_made_anew_say_nothing(rig: Rig) -> None:
    with pytest.raises(Killed):
        await rig.delivery(Deadly(rig, "a0")).deliver([feedback(0), feedback(1)])
    rig.topics.topic_ids["feedback.v1"] = "another"
    healthy = Deadly(rig, "nobody")
    await rig.delivery(healthy).deliver([feedback(0), feedback(1), feedback(2)])
    assert healthy.batches == [["a0", "a1", "a2"]]
