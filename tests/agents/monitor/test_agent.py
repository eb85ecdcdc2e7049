"""The monitor from events to drift that is told: when it checks, for which baseline, how often it says the same."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidEvent
from schemas.interactions import InteractionRecorded
from schemas.learning import DriftCheckRequested, TrainingRequested
from schemas.promotions import AdapterPromoted, CanaryStarted
from tests.agents.monitor.room import Bench
from tests.agents.monitor.rows import row


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def full(bench: Bench, count: int = 10) -> None:
    await bench.answer(*(row(number) for number in range(count)))


async def test_a_check_starts_when_both_windows_are_full(bench: Bench):
    await full(bench, 9)
    assert bench.claim() is None
    await bench.answer(row(9))
    claim = bench.claim()
    assert claim is not None
    assert claim.arguments == {"task": "routing", "baseline": 0, "champion": None, "config": None}


async def test_a_batch_is_looked_at_once_a_task(bench: Bench):
    await full(bench, 9)
    assert bench.answers.looks == 1


async def test_there_is_one_check_of_a_task_at_a_time(bench: Bench):
    await full(bench)
    await bench.answer(row(10), row(11))
    await bench.deliver(DriftCheckRequested(task="routing"), DriftCheckRequested(task="support"))
    assert [run.arguments["task"] for run in bench.runs.unfinished("monitor")] == ["routing", "support"]


async def test_an_event_that_comes_twice_starts_one_check(bench: Bench):
    for number in range(10):
        bench.features.put_interaction(row(number))
    event = InteractionRecorded(answer_id="a00009", task="routing", outcome="approved", revision=1)
    await bench.deliver(event, event)
    assert len(bench.runs.unfinished("monitor")) == 1


async def test_the_next_check_waits_for_new_answers(bench: Bench):
    await full(bench)
    await bench.finish()
    await bench.answer(row(10))
    assert bench.claim() is None
    await bench.answer(row(11))
    assert bench.claim() is not None


async def test_late_ratings_start_a_check_too(bench: Bench):
    await bench.answer(*(row(number, outcome="unrated") for number in range(10)))
    await bench.finish(rated=0)
    await bench.answer(row(8, outcome="corrected"))
    assert bench.claim() is None
    await bench.answer(row(9, outcome="corrected"))
    assert bench.claim() is not None


async def test_a_request_is_checked_even_with_too_few_answers(bench: Bench):
    await bench.deliver(DriftCheckRequested(task="routing"))
    assert bench.claim() is not None


async def test_other_requests_and_unknown_tasks_start_nothing(bench: Bench):
    await bench.deliver(
        TrainingRequested(task="routing"),
        InteractionRecorded(answer_id="a", task="gone", outcome="unrated", revision=1),
        InteractionRecorded(answer_id="a", outcome="pending", revision=1),
    )
    assert (bench.claim(), bench.answers.looks) == (None, 0)
    with pytest.raises(InvalidEvent, match="there is no task gone: add it"):
        await bench.deliver(DriftCheckRequested(task="gone"))


async def test_drift_is_told_with_its_evidence_and_kept_in_the_same_transaction(bench: Bench):
    await full(bench)
    kept = await bench.finish("outcomes", "retrain", rated=4, corrected=3)
    [event] = bench.told()
    assert (event.task, event.kind, event.remedy, event.report_uri) == (
        "routing",
        "outcomes",
        "retrain",
        "file:///r.html",
    )
    assert event.evidence["check_id"] == kept.check_id
    assert event.evidence["figures"] == {"rated": 4.0, "bad": 0.0, "corrected": 3.0, "failed": 0.0}
    assert event.current == kept.current
    assert (kept.told_at, kept.told) == (bench.now, "retrain")


async def test_a_check_without_a_verdict_is_kept_and_not_told(bench: Bench):
    await full(bench)
    kept = await bench.finish()
    assert (kept.verdict, kept.told_at, bench.told()) == (None, None, [])


async def test_told_drift_is_not_told_again_during_the_cool_down(bench: Bench):
    await full(bench)
    await bench.finish("outcomes", "label")
    await bench.answer(row(10), row(11))
    bench.pass_time(60)
    kept = await bench.finish("outcomes", "label")
    assert len(bench.told()) == 1
    assert (kept.verdict, kept.told_at) == ("outcomes", bench.checks.recent("routing", 2)[1].told_at)


async def test_lasting_drift_is_told_again_after_the_cool_down_without_traffic(bench: Bench):
    await full(bench)
    await bench.finish("outcomes", "retrain")
    bench.pass_time(3599)
    await bench.tick()
    assert bench.claim() is None
    bench.pass_time(1)
    await bench.tick()
    await bench.finish("outcomes", "retrain")
    assert len(bench.told()) == 2
    await bench.tick()
    assert bench.claim() is None


async def test_a_call_for_training_is_not_silenced_by_a_call_for_labels(bench: Bench):
    await full(bench)
    await bench.finish("questions", "label")
    await bench.answer(row(10), row(11))
    await bench.finish("outcomes", "retrain")
    assert [event.remedy for event in bench.told()] == ["label", "retrain"]


async def test_a_tick_makes_the_check_that_had_to_wait_for_another(bench: Bench):
    await full(bench)
    await bench.answer(row(10), row(11))
    claim = bench.claim()
    assert claim is not None
    await bench.end(claim, bench.monitor.failed(claim, "out of memory"))
    [kept] = bench.checks.recent("routing", 5)
    assert (kept.verdict, kept.findings) == (None, ())
    assert kept.reasons == ("the check failed 1 times, at last with: out of memory",)
    await bench.tick()
    assert (bench.claim(), bench.told()) == (None, [])  # the next one needs new answers


async def test_a_promotion_is_a_new_beginning(bench: Bench):
    await full(bench)
    await bench.finish("outcomes", "retrain")
    await bench.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    await bench.answer(row(20))
    assert bench.claim() is None
    challenger = [row(number, adapter="new", sequence=2, arm="challenger") for number in range(30, 34)]
    await bench.answer(*challenger, *(row(number, adapter="new", sequence=3) for number in range(40, 46)))
    claim = bench.claim()
    assert claim is not None
    assert (claim.arguments["baseline"], claim.arguments["champion"]) == (3, "new")


async def test_drift_of_the_old_champion_is_told_again_for_the_new_one_without_cool_down(bench: Bench):
    await full(bench)
    await bench.finish("outcomes", "retrain")
    await bench.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    await bench.answer(*(row(number, adapter="new", sequence=3) for number in range(20, 30)))
    await bench.finish("outcomes", "retrain")
    assert [event.evidence["baseline"] for event in bench.told()] == [0, 3]


async def test_a_check_that_a_promotion_overtook_is_kept_and_not_told(bench: Bench):
    await full(bench)
    await bench.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    kept = await bench.finish("outcomes", "retrain")
    assert (kept.verdict, bench.told()) == ("outcomes", [])
    assert kept.reasons[-1] == "not told: the champion has changed meanwhile"


async def test_a_restarted_worker_that_finds_a_canary_goes_on_with_its_baseline(bench: Bench):
    canary = CanaryStarted(task="routing", sequence=4, champion="new", challenger="newer", stage="canary", share=0.1)
    await bench.answer(*(row(number, adapter=None, sequence=2) for number in range(5)))
    await bench.follow(AdapterPromoted(task="routing", sequence=3, champion="new"))
    await bench.answer(*(row(number, adapter="new", sequence=3) for number in range(20, 30)))
    await bench.finish("outcomes", "label")
    bench.restart()
    await bench.follow(canary)
    await bench.answer(*(row(number, adapter="new", sequence=4) for number in range(30, 32)))
    await bench.finish("outcomes", "label")
    assert len(bench.told()) == 1
    assert {check.baseline for check in bench.checks.recent("routing", 5)} == {3}
