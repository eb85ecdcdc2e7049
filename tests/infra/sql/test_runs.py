"""The contract of runs and leases: one worker at a time, and a worker that dies loses no work."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from schemas.delivery import Claim, Run
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CONTEXT = {"id": "e1", "source": "/test", "time": NOW.isoformat()}


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def add(stores: Stores, run_id: str, at: datetime = NOW, **arguments: object) -> None:
    stores.runs.add("trainer", run_id, "train", dict(arguments), CONTEXT, at)


def claim(stores: Stores, worker: str = "w1", at: datetime = NOW) -> Claim | None:
    """Claims a run so long after the start, by the wall clock and by the monotonic clock."""
    stores.seconds.now = (at - NOW).total_seconds()
    return stores.runs.claim("trainer", worker, now=at, lease_seconds=10)


def test_a_run_is_claimed_with_its_arguments_and_then_taken(stores: Stores):
    add(stores, "r1", task="routing", rows=[1, 2.5, None], text="ä\x00\x1b")

    assert claim(stores) == Claim(
        run_id="r1",
        kind="train",
        arguments={"task": "routing", "rows": [1, 2.5, None], "text": "ä\x00\x1b"},
        context=CONTEXT,
        attempt=1,
    )
    assert claim(stores, "w2", later(9.9)) is None
    assert stores.runs.show("r1") == Run(
        run_id="r1",
        agent="trainer",
        kind="train",
        state="running",
        attempt=1,
        worker="w1",
        arguments={"task": "routing", "rows": [1, 2.5, None], "text": "ä\x00\x1b"},
        created_at=NOW,
        started_at=NOW,
    )


def test_runs_are_claimed_oldest_first_and_by_their_own_agent(stores: Stores):
    add(stores, "b", at=later(1))
    add(stores, "c", at=later(1))
    add(stores, "z", at=NOW)

    assert stores.runs.claim("validator", "w1", now=later(5), lease_seconds=10) is None
    assert [found.run_id for w in "123" if (found := claim(stores, w, at=later(5)))] == ["z", "b", "c"]


def test_adding_a_run_twice_is_adding_it_once(stores: Stores):
    add(stores, "r1", task="a")
    claim(stores)
    add(stores, "r1", task="b")

    found = stores.runs.show("r1")
    assert found is not None
    assert found.state == "running"
    assert claim(stores, "w2") is None


def test_a_dead_workers_run_is_taken_over_and_the_dead_one_learns_of_it(stores: Stores):
    add(stores, "r1")
    claim(stores, "w1")
    assert claim(stores, "w2", later(1)) is None
    assert claim(stores, "w2", later(10.9)) is None

    taken = claim(stores, "w2", later(11))

    assert taken is not None
    assert taken.attempt == 2
    assert not stores.runs.renew("r1", 1, now=later(11), lease_seconds=10)
    assert not stores.runs.finish("r1", 1, state="done", result={}, now=later(11))
    stores.runs.release("r1", 1, now=later(11), retry_in_seconds=0)
    assert stores.runs.finish("r1", 2, state="done", result={"loss": 0.25}, now=later(12))


@pytest.mark.parametrize("jump", [timedelta(minutes=5), timedelta(days=-3), timedelta(days=3)])
def test_a_clock_that_jumps_frees_no_held_run_and_keeps_none_of_a_dead_worker(stores: Stores, jump: timedelta):
    add(stores, "r1")
    claim(stores, "w1")
    assert claim(stores, "w2") is None

    def look(seconds: float) -> Claim | None:
        stores.seconds.now = seconds
        return stores.runs.claim("trainer", "w2", now=later(seconds) + jump, lease_seconds=10)

    assert look(1) is None
    assert stores.runs.renew("r1", 1, now=later(5), lease_seconds=10)
    assert look(9) is None
    assert look(18.9) is None
    assert look(19) is not None


def test_an_attempt_that_lost_its_run_cannot_change_it_under_the_name_of_the_worker_that_holds_it(stores: Stores):
    add(stores, "r1")
    claim(stores, "w1")
    claim(stores, "w1")

    assert not stores.runs.renew("r1", 1, now=NOW, lease_seconds=10)
    assert not stores.runs.finish("r1", 1, state="done", result={}, now=NOW)
    stores.runs.report("r1", 1, {"done": 0.5})
    stores.runs.release("r1", 1, now=NOW, retry_in_seconds=0)

    run = stores.runs.show("r1")
    assert run is not None
    assert (run.state, run.attempt, run.progress) == ("running", 2, {})
    assert stores.runs.finish("r1", 2, state="done", result={}, now=NOW)


def test_a_run_that_was_asked_for_by_a_clock_ahead_is_claimed_at_once(stores: Stores):
    add(stores, "r1", at=later(240))

    assert claim(stores) is not None


def test_a_run_that_was_put_off_by_a_clock_days_ahead_is_due(stores: Stores):
    add(stores, "r1")
    claim(stores)
    stores.runs.release("r1", 1, now=NOW + timedelta(days=2), retry_in_seconds=8)

    assert claim(stores, at=later(1)) is not None


def test_a_renewed_lease_keeps_the_run(stores: Stores):
    add(stores, "r1")
    claim(stores, "w1")

    assert claim(stores, "w2", later(1)) is None
    assert stores.runs.renew("r1", 1, now=later(9), lease_seconds=10)
    assert claim(stores, "w2", later(11)) is None
    assert claim(stores, "w2", later(20.9)) is None
    assert claim(stores, "w2", later(21)) is not None


def test_a_finished_run_stays_finished_and_shows_its_result(stores: Stores):
    add(stores, "r1")
    claim(stores)

    assert stores.runs.finish("r1", 1, state="failed", result={"reason": "out of memory"}, now=later(1))

    assert not stores.runs.finish("r1", 1, state="done", result={}, now=later(2))
    assert not stores.runs.renew("r1", 1, now=later(2), lease_seconds=10)
    assert claim(stores, "w2", later(1000)) is None
    assert stores.runs.show("r1") == Run(
        run_id="r1",
        agent="trainer",
        kind="train",
        state="failed",
        attempt=1,
        worker="w1",
        created_at=NOW,
        started_at=NOW,
        finished_at=later(1),
        result={"reason": "out of memory"},
    )


def test_unfinished_runs_are_queued_or_running_and_of_their_agent(stores: Stores):
    add(stores, "r1", task="a")
    add(stores, "r2", at=later(1), task="b")
    stores.runs.add("validator", "r3", "validate", {}, CONTEXT, NOW)
    claim(stores)

    with stores.database.transaction():
        assert [run.run_id for run in stores.runs.unfinished("trainer")] == ["r1", "r2"]
    stores.runs.finish("r1", 1, state="done", result={}, now=later(2))

    assert [(run.run_id, run.arguments) for run in stores.runs.unfinished("trainer")] == [("r2", {"task": "b"})]
    assert [run.run_id for run in stores.runs.of_task("trainer", "a", 5)] == ["r1"]


def test_progress_is_written_down_by_whoever_holds_the_run_and_the_first_start_is_kept(stores: Stores):
    add(stores, "r1")
    claim(stores)
    stores.runs.report("r1", 1, {"done": 0.5, "text": "training"})
    stores.runs.report("r1", 2, {"done": 0.9, "text": "not mine"})
    assert claim(stores, "w2") is None
    assert claim(stores, "w2", later(10)) is not None

    run = stores.runs.show("r1")

    assert run is not None
    assert (run.progress, run.started_at, run.worker) == ({"done": 0.5, "text": "training"}, NOW, "w2")


def test_a_worker_that_comes_back_under_its_name_takes_up_its_run_at_once(stores: Stores):
    add(stores, "r1")
    claim(stores, "w1")

    assert claim(stores, "w2", later(1)) is None
    again = claim(stores, "w1", later(1))

    assert again is not None
    assert (again.run_id, again.attempt) == ("r1", 2)


def test_a_run_ends_as_done_or_failed_only(stores: Stores):
    add(stores, "r1")
    claim(stores)

    with pytest.raises(ValueError, match="done or failed"):
        stores.runs.finish("r1", 1, state="queued", result={}, now=NOW)


def test_a_result_with_a_figure_that_json_does_not_have_is_refused(stores: Stores):
    add(stores, "r1")
    claim(stores)
    with pytest.raises(Exception, match="not JSON compliant"):
        stores.runs.finish("r1", 1, state="done", result={"loss": float("nan")}, now=NOW)
    assert stores.runs.finish("r1", 1, state="done", result={"loss": 1.5}, now=NOW)


def test_a_released_run_is_due_after_its_pause_with_its_attempts_kept(stores: Stores):
    add(stores, "r1")
    claim(stores)

    stores.runs.release("r1", 1, now=later(1), retry_in_seconds=5)

    released = stores.runs.show("r1")
    assert released is not None
    assert (released.state, released.worker) == ("queued", None)
    assert claim(stores, "w2", later(5.9)) is None
    again = claim(stores, "w2", later(6))
    assert again is not None
    assert again.attempt == 2


def test_a_spared_attempt_does_not_count_against_the_run(stores: Stores):
    add(stores, "r1")
    for attempt, spare in enumerate((True, False, True), start=1):
        claim(stores)
        stores.runs.release("r1", attempt, now=NOW, retry_in_seconds=0, spare=spare)

    again = claim(stores)
    assert again is not None
    assert (again.attempt, again.spared, again.counted) == (4, 2, 2)


def test_an_unknown_run_is_shown_as_none_and_held_by_nobody(stores: Stores):
    assert stores.runs.show("r1") is None
    assert not stores.runs.renew("r1", 1, now=NOW, lease_seconds=1)


def acquire(stores: Stores, holder: str, seconds: float, name: str = "tick") -> bool:
    """Asks for a lease so long after the start, by the wall clock and by the monotonic clock."""
    stores.seconds.now = seconds
    return stores.leases.acquire(name, holder, now=later(seconds), seconds=10)


def test_a_lease_is_held_until_it_is_seen_unrenewed_for_its_time_and_its_holder_renews_it(stores: Stores):
    assert acquire(stores, "w1", 0)
    assert not acquire(stores, "w2", 1)
    assert not acquire(stores, "w2", 10.9)
    assert acquire(stores, "w1", 10.95)
    assert not acquire(stores, "w2", 11)
    assert acquire(stores, "w2", 12, name="another")
    assert not acquire(stores, "w2", 20.9)
    assert acquire(stores, "w2", 21)
    assert not acquire(stores, "w1", 21.1)


@pytest.mark.parametrize("jump", [timedelta(minutes=5), timedelta(days=-3), timedelta(days=3)])
def test_a_clock_that_jumps_frees_no_lease_and_keeps_none_of_a_dead_holder(stores: Stores, jump: timedelta):
    assert acquire(stores, "w1", 0)

    def ask(seconds: float) -> bool:
        stores.seconds.now = seconds
        return stores.leases.acquire("tick", "w2", now=later(seconds) + jump, seconds=10)

    assert [ask(seconds) for seconds in (1, 5, 10.9, 11)] == [False, False, False, True]


def test_the_last_scheduled_time_is_kept_and_never_goes_back(stores: Stores):
    assert stores.leases.last("tick") is None
    assert stores.leases.set_last("tick", later(60))
    assert not stores.leases.set_last("tick", NOW)
    assert not stores.leases.set_last("tick", later(60))

    assert stores.leases.last("tick") == later(60)
    assert stores.leases.acquire("tick", "w1", now=NOW, seconds=10)
    assert stores.leases.last("tick") == later(60)
    assert stores.leases.set_last("tick", later(61))
    assert not stores.leases.acquire("tick", "w2", now=later(1), seconds=10)


def test_scheduled_times_start_over_in_another_generation(stores: Stores):
    assert stores.leases.generation("tick") == 0
    stores.leases.set_last("tick", later(86_400))
    assert stores.leases.generation("tick") == 0

    assert stores.leases.start_over("tick", NOW, 1)
    assert not stores.leases.start_over("tick", later(1), 1)

    assert (stores.leases.last("tick"), stores.leases.generation("tick")) == (NOW, 1)
    stores.leases.set_last("tick", later(60))
    assert (stores.leases.last("tick"), stores.leases.generation("tick")) == (later(60), 1)
    stores.leases.start_over("another", NOW, 2)
    assert (stores.leases.last("another"), stores.leases.generation("another")) == (NOW, 2)


def test_only_runs_that_ended_long_ago_are_pruned(stores: Stores):
    for name in ("done", "failed", "lately", "running", "queued"):
        stores.runs.add("trainer", name, "train", {}, {}, NOW)
    stores.runs.add("monitor", "another agent's", "check", {}, {}, NOW)
    for name, state in (("done", "done"), ("failed", "failed"), ("lately", "done")):
        claim = stores.runs.claim("trainer", f"worker {name}", now=NOW, lease_seconds=60)
        assert claim is not None
        ended = later(60) if name == "lately" else NOW
        assert stores.runs.finish(claim.run_id, claim.attempt, state=state, result={}, now=ended)
    stores.runs.claim("trainer", "worker", now=NOW, lease_seconds=60)
    stores.runs.claim("monitor", "worker", now=NOW, lease_seconds=60)
    assert stores.runs.prune("trainer", NOW) == 0
    assert stores.runs.prune("trainer", later(30)) == 2
    assert stores.runs.prune("trainer", later(10_000)) == 1
    assert sorted(run.state for run in stores.runs.unfinished("trainer")) == ["queued", "running"]
    assert stores.runs.show("another agent's") is not None
