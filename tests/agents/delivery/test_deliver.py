"""Delivery on memory twins: each event has its effect once; a failure is retried, waited for or dead-lettered."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from agents.delivery.outbox import Outbox
from agents.delivery.outcome import NOTHING, Outcome, Output
from agents.delivery.worker import BatchHandler, GivenUp
from infra.memory.journal import MemoryJournal
from schemas.delivery import JournalEntry
from schemas.envelope import Received, Record
from schemas.errors import ConfigurationError, EngineCrashed, InvalidEvent, Unavailable
from schemas.event import Event
from schemas.interactions import FeedbackGiven, InteractionRecorded
from tests.agents.delivery.rig import DEAD_LETTERS, Rig, feedback


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


def _apologize(received: Received[Event], reason: str) -> Sequence[Output]:
    fact = InteractionRecorded(answer_id=received.event.key, outcome="failed", revision=7, adapter_id=reason)
    return [Output(event=fact)]


TELLS: dict[type[Event], GivenUp] = {FeedbackGiven: _apologize}


def _told(rig: Rig) -> list[tuple[str | None, str]]:
    """The key and the reason of each apology."""
    events = [json.loads(record.value or b"") for record in rig.outputs()]
    return [(event["answer_id"], event["adapter_id"]) for event in events if event["revision"] == 7]


async def _crash(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
    raise EngineCrashed("the engine\ndied\0")


async def _refuse(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
    raise InvalidEvent("nobody knows that")


async def _break(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("handle", "reason"),
    [
        (_crash, "given up after 3 attempts: the engine died"),
        (_refuse, "nobody knows that"),
        (_break, "given up after 5 attempts: broken"),
    ],
)
async def test_whoever_waits_for_an_event_that_is_given_up_is_told_once(
    rig: Rig, handle: BatchHandler, reason: str
) -> None:
    for _ in range(2):
        await rig.delivery(handle, given_up=TELLS).deliver([feedback(1)])
    assert len(rig.dead_letters()) == 1
    assert _told(rig) == [("a1", reason)]
    assert dict(rig.outputs()[0].headers)["ce_causationid"] == b"e1"


async def test_whoever_waits_for_an_event_that_kills_its_process_is_told(rig: Rig) -> None:
    class Died(BaseException):
        pass

    async def die(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        raise Died

    deaths = 0
    while not rig.dead_letters():
        try:
            await rig.delivery(die, given_up=TELLS).deliver([feedback(1)])
        except Died:
            deaths += 1
    assert deaths == 5
    assert _told(rig) == [("a1", "given up after 3 attempts: it brought its worker down 3 times when handled alone")]


async def test_an_apology_and_a_later_answer_are_two_events(rig: Rig) -> None:
    await rig.delivery(_refuse, given_up=TELLS).deliver([feedback(1)])
    message = feedback(1)
    moved = replace(message, position=replace(message.position, topic="feedback.v1.recorder.retry", offset=0))
    await rig.delivery(given_up=TELLS).deliver([moved])
    assert len({dict(record.headers)["ce_id"] for record in rig.outputs()}) == 2


@pytest.mark.parametrize("text", ["\udcff is no text", "\0", "x" * 20_000_000], ids=["surrogate", "nul", "long"])
async def test_any_error_message_fits_into_a_dead_letter_and_an_apology(rig: Rig, text: str) -> None:
    async def refuse(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        raise InvalidEvent(text)

    await rig.delivery(refuse, given_up=TELLS).deliver([feedback(1)])
    (record,) = rig.kafka.topic(DEAD_LETTERS)
    assert sum(len(value) for _, value in record.headers) < 10_000
    assert len(_told(rig)) == 1


async def test_the_dead_letter_is_written_when_the_apology_fails(rig: Rig) -> None:
    def stammer(received: Received[Event], reason: str) -> Sequence[Output]:
        raise RuntimeError("no words")

    await rig.delivery(_refuse, given_up={FeedbackGiven: stammer}).deliver([feedback(1)])
    assert len(rig.dead_letters()) == 1
    assert rig.outputs() == []


async def test_an_apology_that_was_not_published_at_a_crash_is_published_by_the_next_process(rig: Rig) -> None:
    class Died(BaseException):
        pass

    async def die(seconds: float) -> None:
        raise Died

    rig.kafka.away = True
    with pytest.raises(Died):
        await rig.delivery(_refuse, given_up=TELLS, sleep=die).deliver([feedback(1)])
    rig.kafka.away = False
    await rig.delivery(_refuse, given_up=TELLS).deliver([feedback(1)])
    assert (len(rig.dead_letters()), len(_told(rig))) == (1, 1)


async def test_an_output_that_kafka_will_never_take_is_a_dead_letter_and_the_others_pass(rig: Rig) -> None:
    async def wordy_on_two(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return [_wordy(rig, received) if received.event.key == "a2" else rig.counted(received) for received in batch]

    rig.kafka.most_bytes["interactions.v1"] = 1000
    messages = [feedback(n) for n in range(5)]
    await rig.delivery(wordy_on_two, given_up=TELLS).deliver(messages)
    assert rig.counts() == {f"a{n}": 1 for n in range(5)}
    (letter,) = rig.dead_letters()
    assert (letter["error"], letter["offset"]) == ("RecordRefused", "2")
    assert "max.message.bytes" in letter["message"]
    assert sorted(record.key or b"" for record in rig.outputs()) == [b"a0", b"a1", b"a2", b"a3", b"a4"]
    assert [key for key, _ in _told(rig)] == ["a2"]
    await rig.delivery(wordy_on_two, given_up=TELLS).deliver(messages)
    assert (len(rig.dead_letters()), len(rig.outputs())) == (1, 5)


def _wordy(rig: Rig, received: Received[Event]) -> Outcome:
    fact = InteractionRecorded(answer_id=received.event.key, outcome="pending", revision=9, adapter_id="x" * 2000)
    return Outcome(outputs=[Output(event=fact)], effect=lambda: list(rig.counted(received).effect() or ())[:0])  # type: ignore[misc]  # it has an effect


async def test_an_output_that_was_refused_is_published_when_its_dead_letter_is_retried_under_a_higher_limit(
    rig: Rig,
) -> None:
    async def wordy(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return [_wordy(rig, received) for received in batch]

    rig.kafka.most_bytes["interactions.v1"] = 1000
    await rig.delivery(wordy).deliver([feedback(1)])
    message = feedback(1)
    for offset in (0, 1):
        moved = replace(message, position=replace(message.position, topic="feedback.v1.recorder.retry", offset=offset))
        await rig.delivery(wordy).deliver([moved])
        rig.kafka.most_bytes.clear()
    assert rig.counts() == {"a1": 1}
    assert len(rig.dead_letters()) == 2  # at first, and at the retry before the limit was raised
    assert [record.key for record in rig.outputs()] == [b"a1"]


async def test_a_dead_letter_that_kafka_will_never_take_goes_without_its_value(rig: Rig) -> None:
    rig.kafka.most_bytes[DEAD_LETTERS] = 1000
    message = feedback(1, reason="x" * 2000)
    for _ in range(2):
        await rig.delivery(_refuse, given_up=TELLS).deliver([message, feedback(2)])
    assert [letter["offset"] for letter in rig.dead_letters()] == ["1", "2"]
    assert "bytes is left out" in rig.dead_letters()[0]["message"]
    assert [record.value for record in rig.kafka.topic(DEAD_LETTERS)] == [b"", feedback(2).value]
    assert [key for key, _ in _told(rig)] == ["a1", "a2"]


@pytest.mark.parametrize(
    "trouble",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/x"),
        OSError(errno.EROFS, "Read-only file system"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.EIO, "Input/output error"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ConfigurationError("Milvus refuses the token: set EVERLEARN_MILVUS_TOKEN"),
    ],
    ids=lambda trouble: f"{type(trouble).__name__} {getattr(trouble, 'errno', '')}",
)
async def test_trouble_of_the_machine_or_a_wrong_setting_is_waited_for(rig: Rig, trouble: Exception) -> None:
    calls, reasons = 0, []

    async def in_trouble(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        nonlocal calls
        calls += 1
        if calls < 30:
            if calls % 2:
                raise trouble
            raise RuntimeError("a library wraps it") from trouble
        return await rig.count(batch)

    async def sleep(seconds: float) -> None:
        reasons.append(delivery.waiting)
        await rig.clock.sleep(seconds)

    delivery = rig.delivery(in_trouble, sleep=sleep)
    if isinstance(trouble, ConfigurationError):
        calls = 28
    await delivery.deliver([feedback(1)])
    assert rig.counts() == {"a1": 1}
    assert rig.dead_letters() == []
    assert all(reasons)
    assert delivery.waiting is None


@pytest.mark.parametrize(
    "fault",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/x"),
        OSError(errno.ENAMETOOLONG, "File name too long"),
        OSError("cannot identify image file"),
    ],
    ids=str,
)
async def test_a_file_error_that_may_be_the_events_fault_has_five_attempts(rig: Rig, fault: OSError) -> None:
    async def fail(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        raise fault

    await rig.delivery(fail).deliver([feedback(1)])
    (letter,) = rig.dead_letters()
    assert letter["attempts"] == "5"


async def test_a_full_disk_while_a_dead_letter_is_written_is_waited_for(rig: Rig) -> None:
    real, calls = rig.kafka.publish, 0

    async def publish(records: Sequence[Record]) -> None:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        await real(records)

    rig.kafka.publish = publish  # type: ignore[method-assign]  # a disk cannot be filled in memory
    await rig.delivery(_refuse).deliver([feedback(1)])
    assert len(rig.dead_letters()) == 1


async def test_an_event_that_another_worker_finishes_meanwhile_has_its_effect_once(rig: Rig) -> None:
    other, mine = rig.delivery(), 0

    async def slow(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        nonlocal mine
        mine += 1
        await other.deliver([feedback(1)])
        return await rig.count(batch)

    await rig.delivery(slow).deliver([feedback(1)])
    assert (mine, rig.counts(), len(rig.outputs())) == (1, {"a1": 1}, 1)


async def test_an_event_that_another_worker_gives_up_meanwhile_is_one_dead_letter(rig: Rig) -> None:
    other = rig.delivery(_refuse, given_up=TELLS)
    first = True

    class Late(MemoryJournal):
        """The journal of a worker that looked before the other one wrote."""

        def find(self, agent: str, identities: Sequence[str]) -> dict[str, JournalEntry]:
            nonlocal first
            found = super().find(agent, identities)
            if first and any(identity.startswith("dlq:") for identity in identities) and len(identities) == 1:
                first = False
                asyncio.run_coroutine_threadsafe(other.deliver([feedback(1)]), loop).result(10)
            return found

    loop = asyncio.get_running_loop()
    delivery = rig.delivery(_refuse, given_up=TELLS)
    delivery._outbox = Outbox(
        "recorder", database=rig.database, journal=Late(rig.database), runs=rig.runs, publisher=rig.kafka,
        clock=rig.clock,
    )  # fmt: skip
    await delivery.deliver([feedback(1)])
    assert not first
    assert (len(rig.dead_letters()), len(_told(rig))) == (1, 1)


async def test_another_event_with_a_known_identity_is_dead_lettered_once_and_said(rig: Rig) -> None:
    await rig.delivery().deliver([feedback(1)])
    other = replace(feedback(1, reason="something else"), position=feedback(9).position)
    with capture_logs() as logs:
        await rig.delivery().deliver([other])
        await rig.delivery().deliver([other])
    assert rig.counts() == {"a1": 1}
    (letter,) = rig.dead_letters()
    assert (letter["error"], letter["attempts"], letter["offset"]) == ("DuplicateIdentity", "1", "9")
    assert "give each event an id of its own" in letter["message"]
    assert [line["error"] for line in logs] == ["DuplicateIdentity"]


async def test_another_event_with_the_same_identity_in_one_batch_is_dead_lettered(rig: Rig) -> None:
    other = replace(feedback(1, answer="a7"), position=feedback(9).position)
    await rig.delivery().deliver([feedback(1), other, feedback(2)])
    assert rig.counts() == {"a1": 1, "a2": 1}
    assert [letter["offset"] for letter in rig.dead_letters()] == ["9"]


async def test_another_event_with_the_identity_of_one_that_could_not_be_processed_is_processed(rig: Rig) -> None:
    async def refuse_one(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        if any(received.event.key == "a1" for received in batch):
            raise InvalidEvent("not a1")
        return await rig.count(batch)

    other = replace(feedback(1, answer="a7"), position=feedback(9).position)
    await rig.delivery(refuse_one).deliver([feedback(1), other])
    assert rig.counts() == {"a7": 1}
    assert [letter["error"] for letter in rig.dead_letters()] == ["InvalidEvent"]


async def test_an_event_that_another_worker_journaled_with_other_content_meanwhile_is_dead_lettered(rig: Rig) -> None:
    other = replace(feedback(1, reason="something else"), position=feedback(9).position)

    async def slower(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        if not rig.counts():
            await rig.delivery().deliver([feedback(1)])
        return await rig.count(batch)

    await rig.delivery(slower).deliver([other, feedback(2)])
    assert rig.counts() == {"a1": 1, "a2": 1}
    assert [letter["error"] for letter in rig.dead_letters()] == ["DuplicateIdentity"]


async def test_the_same_event_in_other_words_is_passed_over_silently(rig: Rig) -> None:
    message = feedback(1)
    await rig.delivery().deliver([message])
    data = json.loads(message.value or b"")
    spaced = json.dumps(dict(reversed(data.items())), indent=2).encode()
    traced = tuple((name, b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01" if name == "ce_traceparent" else value)
                   for name, value in reversed(message.headers))  # fmt: skip
    moved = replace(message, value=spaced, headers=traced, key=None, position=feedback(9).position)
    with capture_logs() as logs:
        await rig.delivery().deliver([moved])
    assert (rig.counts(), rig.dead_letters(), logs) == ({"a1": 1}, [], [])


async def test_an_entry_without_a_digest_of_an_earlier_version_passes_over_its_event(rig: Rig) -> None:
    rig.journal.add("recorder", "/tests e1", [], rig.clock.now)
    await rig.delivery().deliver([feedback(1)])
    assert (rig.counts(), rig.dead_letters()) == ({}, [])


async def test_a_dead_letter_of_an_earlier_version_is_recognised_and_not_in_a_topic_made_anew(rig: Rig) -> None:
    async def refuse(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        raise InvalidEvent("never")

    rig.journal.add("recorder", "dlq:feedback.v1/0/1", [], rig.clock.now)
    await rig.delivery(refuse).deliver([feedback(1)])
    assert (rig.counts(), rig.dead_letters()) == ({}, [])
    rig.topics.topic_ids["feedback.v1"] = "another"
    await rig.delivery(refuse).deliver([feedback(1)])
    assert len(rig.dead_letters()) == 1


async def test_offsets_that_repeat_in_another_cluster_lose_no_dead_letter_and_the_log_says_so(rig: Rig) -> None:
    malformed = replace(feedback(1), value=b"{}")
    await rig.delivery().deliver([malformed])
    rig.topics.cluster_id = "cluster-2"
    with capture_logs() as logs:
        await rig.delivery().deliver([malformed])
        await rig.delivery().deliver([malformed])
    assert len(rig.dead_letters()) == 2
    (line,) = [line for line in logs if line["event"] == "another cluster"]
    assert line["topics"] == ["feedback.v1", "feedback.v1.recorder.retry"]
    assert "cluster-1" in line["meaning"]
    assert "cluster-2" in line["meaning"]
    assert "publish documents FOLDER --all" in line["meaning"]


@pytest.mark.parametrize("back", [timedelta(minutes=6), timedelta(days=400)])
async def test_a_clock_that_is_put_back_makes_no_event_one_from_the_future(rig: Rig, back: timedelta) -> None:
    delivery = rig.delivery()
    rig.clock.now -= back
    await delivery.deliver([feedback(1)])
    assert (rig.counts(), rig.dead_letters()) == ({"a1": 1}, [])


async def test_an_event_of_a_sender_whose_clock_is_ahead_is_dead_lettered(rig: Rig) -> None:
    delivery = rig.delivery()
    early = replace(
        feedback(1),
        headers=tuple(
            (name, b"2026-01-01T00:05:01Z" if name == "ce_time" else value) for name, value in feedback(1).headers
        ),
    )
    await delivery.deliver([early])
    assert "set the sender's clock" in rig.dead_letters()[0]["message"]
