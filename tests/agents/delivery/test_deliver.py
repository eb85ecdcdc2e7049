"""Delivery on memory twins: each event has its effect once; a failure is retried, waited for or dead-lettered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agents.delivery.outcome import NOTHING, Outcome, Output
from schemas.envelope import Received
from schemas.errors import EngineCrashed, InvalidEvent, Unavailable
from schemas.event import Event
from schemas.interactions import InteractionRecorded
from tests.agents.delivery.rig import Rig, feedback


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_every_event_has_its_effect_and_its_output_once(rig: Rig) -> None:
    await rig.delivery().deliver([feedback(n) for n in range(5)])
    assert rig.counts() == {f"a{n}": 1 for n in range(5)}
    assert [record.key for record in rig.outputs()] == [b"a0", b"a1", b"a2", b"a3", b"a4"]


async def test_a_redelivered_event_changes_nothing_and_publishes_nothing(rig: Rig) -> None:
    await rig.delivery().deliver([feedback(1)])
    await rig.delivery().deliver([feedback(1)])
    assert rig.counts() == {"a1": 1}
    assert len(rig.outputs()) == 1


async def test_an_event_twice_in_one_batch_is_handled_once(rig: Rig) -> None:
    again = replace(feedback(1), position=feedback(7).position)
    await rig.delivery().deliver([feedback(1), feedback(2), again])
    assert rig.counts() == {"a1": 1, "a2": 1}


async def test_the_next_process_publishes_an_event_that_was_committed_but_not_published(rig: Rig) -> None:
    class Died(BaseException):
        pass

    async def die(seconds: float) -> None:
        raise Died

    rig.kafka.away = True
    with pytest.raises(Died):
        await rig.delivery(sleep=die).deliver([feedback(1)])
    (entry,) = rig.journal.find("recorder", ["/tests e1"]).values()
    rig.kafka.away = False
    await rig.delivery().deliver([feedback(1)])
    assert rig.counts() == {"a1": 1}
    assert rig.outputs() == list(entry.outputs)


async def test_delivery_waits_for_kafka_without_using_up_attempts(rig: Rig) -> None:
    rig.kafka.away = True
    waits: list[str | None] = []

    async def sleep(seconds: float) -> None:
        waits.append(delivery.waiting)
        if len(waits) == 40:
            rig.kafka.away = False
        await rig.clock.sleep(seconds)

    delivery = rig.delivery(sleep=sleep)
    await delivery.deliver([feedback(1), feedback(2)])
    assert len(waits) == 40
    assert all(waits)
    assert delivery.waiting is None
    assert rig.counts() == {"a1": 1, "a2": 1}
    assert rig.dead_letters() == []


async def test_a_malformed_message_is_dead_lettered_unchanged_and_the_others_are_processed(rig: Rig) -> None:
    broken = replace(feedback(3), value=b"\xff\x00 not JSON", key=None)
    await rig.delivery().deliver([feedback(1), broken, feedback(2)])
    assert rig.counts() == {"a1": 1, "a2": 1}
    (letter,) = rig.dead_letters()
    assert letter["error"] == "InvalidEvent"
    assert letter["offset"] == "3"
    assert letter["attempts"] == "1"
    (record,) = rig.kafka.topic("feedback.v1.recorder.dlq")
    assert (record.key, record.value) == (None, b"\xff\x00 not JSON")
    assert record.headers[: len(broken.headers)] == broken.headers


async def test_an_event_of_a_newer_version_is_dead_lettered_whole_and_processed_after_the_upgrade(rig: Rig) -> None:
    message = feedback(1)
    value = message.value or b""
    value = value[:-1] + b',"of_version_2":{"kept":true}}'
    newer = tuple(
        (name, b"everlearn.feedback.given.v2" if name == "ce_type" else each) for name, each in message.headers
    )
    await rig.delivery().deliver([replace(message, value=value, headers=newer)])
    assert rig.counts() == {}
    (letter,) = rig.dead_letters()
    assert "upgrade this one, then send it again with 'dlq retry'" in letter["message"]
    (record,) = rig.kafka.topic("feedback.v1.recorder.dlq")
    assert (record.key, record.value, record.headers[: len(newer)]) == (message.key, value, newer)
    # The upgraded worker knows the type; here it is the old one again.
    retry = replace(message.position, topic="feedback.v1.recorder.retry", offset=0)
    await rig.delivery().deliver([replace(message, value=record.value, position=retry)])
    assert rig.counts() == {"a1": 1}


async def test_a_message_without_key_and_value_is_dead_lettered_with_an_empty_value(rig: Rig) -> None:
    nothing = replace(feedback(3), value=None, key=None, headers=())
    await rig.delivery().deliver([nothing])
    (record,) = rig.kafka.topic("feedback.v1.recorder.dlq")
    assert (record.key, record.value) == (None, b"")


async def test_a_malformed_message_that_is_delivered_twice_is_dead_lettered_once(rig: Rig) -> None:
    broken = replace(feedback(3), value=b"{}")
    await rig.delivery().deliver([broken])
    await rig.delivery().deliver([broken])
    assert len(rig.dead_letters()) == 1


async def test_a_dead_letter_that_is_retried_is_processed(rig: Rig) -> None:
    async def refuse(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        raise InvalidEvent("not now")

    await rig.delivery(refuse).deliver([feedback(1)])
    message = feedback(1)
    moved = replace(message, position=replace(message.position, topic="feedback.v1.recorder.retry", offset=0))
    await rig.delivery().deliver([moved])
    assert rig.counts() == {"a1": 1}


async def test_the_event_that_makes_a_batch_fail_is_found_and_the_others_are_processed(rig: Rig) -> None:
    async def fails_on_thirteen(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        if any(received.event.key == "a13" for received in batch):
            raise RuntimeError("thirteen")
        return await rig.count(batch)

    await rig.delivery(fails_on_thirteen).deliver([feedback(n) for n in range(32)])
    assert rig.counts() == {f"a{n}": 1 for n in range(32) if n != 13}
    (letter,) = rig.dead_letters()
    assert (letter["error"], letter["message"], letter["attempts"]) == ("RuntimeError", "thirteen", "5")


async def test_a_temporary_error_leaves_no_dead_letter(rig: Rig) -> None:
    attempts = 0

    async def fails_four_times(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        nonlocal attempts
        attempts += 1
        if attempts < 5:
            raise RuntimeError("not yet")
        return await rig.count(batch)

    await rig.delivery(fails_four_times).deliver([feedback(1)])
    assert rig.counts() == {"a1": 1}
    assert rig.dead_letters() == []


async def test_an_effect_that_fails_rolls_back_the_whole_batch_before_it_is_bisected(rig: Rig) -> None:
    async def fails_in_one_effect(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        def fail() -> Sequence[Output]:
            raise RuntimeError("in the transaction")

        return [Outcome(effect=fail) if r.event.key == "a2" else rig.counted(r) for r in batch]

    await rig.delivery(fails_in_one_effect).deliver([feedback(n) for n in range(4)])
    assert rig.counts() == {"a0": 1, "a1": 1, "a3": 1}
    assert len(rig.dead_letters()) == 1


async def test_an_event_that_crashes_the_engine_three_times_alone_is_dead_lettered(rig: Rig) -> None:
    async def crashes_on_two(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        if any(received.event.key == "a2" for received in batch):
            raise EngineCrashed("the engine died")
        return await rig.count(batch)

    await rig.delivery(crashes_on_two).deliver([feedback(n) for n in range(4)])
    assert rig.counts() == {"a0": 1, "a1": 1, "a3": 1}
    (letter,) = rig.dead_letters()
    assert (letter["error"], letter["attempts"]) == ("EngineCrashed", "3")


async def test_delivery_waits_for_an_unavailable_engine_without_a_limit(rig: Rig) -> None:
    calls = 0

    async def unavailable(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        nonlocal calls
        calls += 1
        if calls < 200:
            raise Unavailable("the engine is away")
        return await rig.count(batch)

    await rig.delivery(unavailable).deliver([feedback(1)])
    assert rig.counts() == {"a1": 1}
    assert rig.dead_letters() == []


async def test_waiting_does_not_count_towards_the_time_limit_of_retries(rig: Rig) -> None:
    calls = 0

    async def unavailable_or_failing(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        nonlocal calls
        calls += 1
        if calls in (1, 3):
            rig.seconds += 600  # the engine is away for ten minutes, before and after the first failure
            raise Unavailable("the engine is away")
        if calls in (2, 4):
            raise RuntimeError("not yet")
        return await rig.count(batch)

    await rig.delivery(unavailable_or_failing).deliver([feedback(1)])
    assert rig.counts() == {"a1": 1}
    assert rig.dead_letters() == []


async def test_slow_failures_are_given_up_at_the_time_limit_of_retries(rig: Rig) -> None:
    async def slow(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        rig.seconds += 20
        raise RuntimeError("it took 20 s and failed")

    await rig.delivery(slow).deliver([feedback(1)])
    assert [letter["attempts"] for letter in rig.dead_letters()] == ["3"]


async def test_an_event_with_too_large_an_output_is_given_up_before_anything_is_committed(rig: Rig) -> None:
    async def too_large(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        fact = InteractionRecorded(answer_id="x", outcome="pending", revision=1, adapter_id="y" * 10_000_000)
        return [replace(rig.counted(received), outputs=[Output(event=fact)]) for received in batch]

    await rig.delivery(too_large).deliver([feedback(1)])
    assert rig.counts() == {}
    assert "more than a topic takes" in rig.dead_letters()[0]["message"]


async def test_an_event_without_an_effect_is_journaled_too(rig: Rig) -> None:
    async def ignore(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return [NOTHING for _ in batch]

    await rig.delivery(ignore).deliver([feedback(1)])
    assert rig.journal.find("recorder", ["/tests e1"])["/tests e1"].outputs == ()


async def test_a_failing_action_after_the_commit_does_no_harm(rig: Rig) -> None:
    async def fails_after_commit(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        def fail() -> None:
            raise RuntimeError("after the commit")

        return [replace(rig.counted(received), after=fail) for received in batch]

    await rig.delivery(fails_after_commit).deliver([feedback(1)])
    assert rig.counts() == {"a1": 1}
    assert rig.dead_letters() == []
