"""The monitor from events to published drift: when it checks, for which baseline, and how often it publishes."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidEvent
from schemas.interactions import InteractionRecorded
from schemas.learning import DriftCheckRequested, TrainingRequested
from schemas.promotions import AdapterPromoted, CanaryStarted
from tests.agents.monitor.room import Room
from tests.agents.monitor.rows import row


@pytest.fixture
def room() -> Room:
    return Room()


async def full(room: Room, count: int = 10) -> None:
    await room.answer(*(row(number) for number in range(count)))


async def test_a_check_starts_when_both_windows_are_full(room: Room):
    await full(room, 9)
    assert room.claim() is None
    await room.answer(row(9))
    claim = room.claim()
    assert claim is not None
    assert claim.arguments == {"task": "routing", "baseline": 0, "champion": None, "config": None}


async def test_a_batch_is_looked_at_once_a_task(room: Room):
    await full(room, 9)
    assert room.answers.counted == 1


async def test_there_is_one_check_of_a_task_at_a_time(room: Room):
    await full(room)
    await room.answer(row(10), row(11))
    await room.deliver(DriftCheckRequested(task="routing"), DriftCheckRequested(task="support"))
    assert [run.arguments["task"] for run in room.runs.unfinished("monitor")] == ["routing", "support"]


async def test_an_event_that_comes_twice_starts_one_check(room: Room):
    for number in range(10):
        room.features.put_interaction(row(number))
    event = InteractionRecorded(answer_id="a00009", task="routing", outcome="approved", revision=1)
    await room.deliver(event, event)
    assert len(room.runs.unfinished("monitor")) == 1


async def test_the_next_check_waits_for_new_answers(room: Room):
    await full(room)
    await room.finish()
    await room.answer(row(10))
    assert room.claim() is None
    await room.answer(row(11))
    assert room.claim() is not None


async def test_late_ratings_start_a_check_too(room: Room):
    await room.answer(*(row(number, outcome="unrated") for number in range(10)))
    await room.finish(rated=0)
    await room.answer(row(8, outcome="corrected"))
    assert room.claim() is None
    await room.answer(row(9, outcome="corrected"))
    assert room.claim() is not None


async def test_a_request_is_checked_even_with_too_few_answers(room: Room):
    await room.deliver(DriftCheckRequested(task="routing"))
    assert room.claim() is not None


async def test_other_requests_and_unknown_tasks_start_nothing(room: Room):
    await room.deliver(
        TrainingRequested(task="routing"),
        InteractionRecorded(answer_id="a", task="gone", outcome="unrated", revision=1),
        InteractionRecorded(answer_id="a", outcome="pending", revision=1),
    )
    assert (room.claim(), room.answers.counted) == (None, 0)
    with pytest.raises(InvalidEvent, match="there is no task gone: add it"):
        await room.deliver(DriftCheckRequested(task="gone"))


async def test_drift_is_told_with_its_evidence_and_kept_in_the_same_transaction(room: Room):
    await full(room)
    kept = await room.finish("outcomes", "retrain", rated=4, corrected=3)
    [event] = room.published()
    assert (event.task, event.kind, event.remedy, event.report_uri) == (
        "routing",
        "outcomes",
        "retrain",
        "file:///r.html",
    )
    assert event.evidence["check_id"] == kept.check_id
    assert event.evidence["figures"] == {"rated": 4.0, "bad": 0.0, "corrected": 3.0, "failed": 0.0}
    assert "label" not in event.evidence
    assert event.current == kept.current
    assert (kept.told_at, kept.told) == (room.now, "retrain")


async def test_drift_that_asks_for_labels_names_the_answers(room: Room):
    await full(room)
    kept = await room.finish("questions", "label", to_label=("a2", "a1"))
    [event] = room.published()
    assert event.evidence["label"] == list(kept.to_label) == ["a2", "a1"]


async def test_a_check_without_a_verdict_is_kept_and_not_told(room: Room):
    await full(room)
    kept = await room.finish()
    assert (kept.verdict, kept.told_at, room.published()) == (None, None, [])


async def test_told_drift_is_not_told_again_during_the_cool_down(room: Room):
    await full(room)
    await room.finish("outcomes", "label")
    await room.answer(row(10), row(11))
    room.pass_time(60)
    kept = await room.finish("outcomes", "label")
    assert len(room.published()) == 1
    assert (kept.verdict, kept.told_at) == ("outcomes", room.checks.recent("routing", 2)[1].told_at)


async def test_lasting_drift_is_told_again_after_the_cool_down_without_traffic(room: Room):
    await full(room)
    await room.finish("outcomes", "retrain")
    room.pass_time(3599)
    await room.tick()
    assert room.claim() is None
    room.pass_time(1)
    await room.tick()
    await room.finish("outcomes", "retrain")
    assert len(room.published()) == 2
    await room.tick()
    assert room.claim() is None


async def test_a_call_for_training_is_not_silenced_by_a_call_for_labels(room: Room):
    await full(room)
    await room.finish("questions", "label")
    await room.answer(row(10), row(11))
    await room.finish("outcomes", "retrain")
    assert [event.remedy for event in room.published()] == ["label", "retrain"]


async def test_a_tick_makes_the_check_that_had_to_wait_for_another(room: Room):
    await full(room)
    await room.answer(row(10), row(11))
    claim = room.claim()
    assert claim is not None
    await room.end(claim, room.monitor.failed(claim, "out of memory"))
    [kept] = room.checks.recent("routing", 5)
    assert (kept.verdict, kept.findings) == (None, ())
    assert kept.reasons == ("the check could not be made: out of memory",)
    await room.tick()
    assert (room.claim(), room.published()) == (None, [])  # the next one needs new answers


async def test_a_promotion_is_a_new_beginning(room: Room):
    await full(room)
    await room.finish("outcomes", "retrain")
    await room.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    await room.answer(row(20))
    assert room.claim() is None
    challenger = [row(number, adapter="new", sequence=2, arm="challenger") for number in range(30, 34)]
    await room.answer(*challenger, *(row(number, adapter="new", sequence=3) for number in range(40, 46)))
    claim = room.claim()
    assert claim is not None
    assert (claim.arguments["baseline"], claim.arguments["champion"]) == (3, "new")


async def test_drift_of_the_old_champion_is_told_again_for_the_new_one_without_cool_down(room: Room):
    await full(room)
    await room.finish("outcomes", "retrain")
    await room.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    await room.answer(*(row(number, adapter="new", sequence=3) for number in range(20, 30)))
    await room.finish("outcomes", "retrain")
    assert [event.evidence["baseline"] for event in room.published()] == [0, 3]


async def test_a_check_that_a_promotion_overtook_is_kept_and_not_told(room: Room):
    await full(room)
    await room.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    kept = await room.finish("outcomes", "retrain")
    assert (kept.verdict, room.published()) == ("outcomes", [])
    assert kept.reasons[-1] == "not published: the champion has changed since"


async def test_a_restarted_worker_that_finds_a_canary_goes_on_with_its_baseline(room: Room):
    canary = CanaryStarted(task="routing", sequence=4, champion="new", challenger="newer", stage="canary", share=0.1)
    await room.answer(*(row(number, adapter=None, sequence=2) for number in range(5)))
    await room.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    await room.answer(*(row(number, adapter="new", sequence=3) for number in range(20, 30)))
    await room.finish("outcomes", "label")
    room.restart()
    await room.follow(canary)
    await room.answer(*(row(number, adapter="new", sequence=4) for number in range(30, 32)))
    await room.finish("outcomes", "label")
    assert len(room.published()) == 1
    assert {check.baseline for check in room.checks.recent("routing", 5)} == {3}
