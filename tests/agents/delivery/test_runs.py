"""Runs: long work in a child process. Its lease, attempts and result survive the death of its worker."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agents.delivery.child import FAILED_WITH_MESSAGE, LOCK, lock_folder
from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.progress import write_progress
from agents.delivery.runs import Runner, runs_source
from agents.delivery.worker import RunKind
from infra.memory.runs import MemoryRunStore
from schemas.delivery import Claim
from schemas.envelope import Received
from schemas.errors import EverlearnError
from schemas.event import Event, JsonObject
from schemas.interactions import InteractionRecorded
from tests.agents.delivery.rig import Rig, feedback

pytestmark = pytest.mark.processes


def add(arguments: JsonObject, folder: Path) -> JsonObject:
    """The work of a run: counts its attempts in its folder, fails as often as its arguments say, then adds."""
    counter = folder / "attempts"
    attempts = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(attempts))
    if arguments.get("known"):
        raise EverlearnError("the disk of the models\nis not there: mount it")
    if attempts <= arguments.get("failures", 0):
        raise RuntimeError(f"attempt {attempts} fails")
    if attempts <= arguments.get("kills", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(arguments.get("seconds", 0))
    return {"sum": arguments["a"] + arguments["b"], "attempts": attempts, "niceness": os.nice(0)}


def _report(claim: Claim, text: str, revision: int) -> Outcome:
    fact = InteractionRecorded(answer_id=claim.run_id, adapter_id=text, outcome="pending", revision=revision)
    return Outcome(outputs=[Output(event=fact)])


KIND = RunKind(
    name="add",
    entry="tests.agents.delivery.test_runs:add",
    done=lambda claim, result: _report(claim, json.dumps(result), 1),
    failed=lambda claim, error: _report(claim, error, 2),
)


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def _ask(rig: Rig, **arguments: Any) -> None:
    async def handle(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return [Outcome(runs=[RunRequest(kind="add", arguments={"a": 1, "b": 2, **arguments})]) for _ in batch]

    await rig.delivery(handle).deliver([feedback(1)])


def _runner(
    rig: Rig, folder: Path, worker: str = "one", *, runs: MemoryRunStore | None = None, lease_seconds: float = 30.0
) -> Runner:
    return Runner(
        rig.outbox(),
        runs or rig.runs,
        {"add": KIND},
        worker=worker,
        folder=folder,
        clock=rig.clock,
        lease_seconds=lease_seconds,
    )


def _results(rig: Rig) -> list[str]:
    return [json.loads(record.value or b"")["adapter_id"] for record in rig.outputs()]


async def test_a_run_is_done_in_a_child_of_low_priority_and_its_result_is_published_once(
    rig: Rig, tmp_path: Path
) -> None:
    await _ask(rig)
    runner = _runner(rig, tmp_path)
    assert [await runner.work() for _ in range(2)] == [True, False]
    (result,) = _results(rig)
    assert json.loads(result)["sum"] == 3
    assert json.loads(result)["niceness"] >= 10
    headers = dict(rig.outputs()[0].headers)
    assert headers["ce_correlationid"] == b"e1"


async def test_an_event_delivered_twice_asks_for_one_run(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig)
    await _ask(rig)
    runner = _runner(rig, tmp_path)
    assert [await runner.work() for _ in range(2)] == [True, False]


@pytest.mark.parametrize("how", ["failures", "kills"])
async def test_a_run_that_fails_twice_is_resumed_in_its_folder_and_done(rig: Rig, tmp_path: Path, how: str) -> None:
    await _ask(rig, **{how: 2})
    runner = _runner(rig, tmp_path)
    for _ in range(3):
        assert await runner.work()
        rig.clock.now += timedelta(seconds=60)
    assert json.loads(_results(rig)[0])["attempts"] == 3


async def test_a_run_that_fails_each_time_ends_as_failed_with_its_last_error(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig, failures=99)
    runner = _runner(rig, tmp_path)
    for _ in range(3):
        await runner.work()
        rig.clock.now += timedelta(seconds=60)
    assert not await runner.work()
    (error,) = _results(rig)
    assert "attempt 3 fails" in error


async def test_a_run_that_fails_with_an_error_of_ours_reports_only_its_message(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig, known=True)
    runner = _runner(rig, tmp_path)
    for _ in range(3):
        await runner.work()
        rig.clock.now += timedelta(seconds=60)
    assert _results(rig) == ["the disk of the models is not there: mount it"]


async def test_a_dead_workers_run_is_taken_over_when_its_lease_has_expired(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig)
    assert rig.runs.claim("recorder", "dead", now=rig.clock.now, lease_seconds=30) is not None
    runner = _runner(rig, tmp_path, worker="two")
    assert not await runner.work()
    rig.clock.now += timedelta(days=1)
    assert not await runner.work(), "a clock that jumps does not end a lease"
    rig.seconds += 31
    assert await runner.work()
    assert len(_results(rig)) == 1


async def test_a_worker_that_lost_its_run_ends_the_child_and_publishes_nothing(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig, seconds=30)
    renewals = 0

    class Stolen(MemoryRunStore):
        """The run store of a worker whose lease expired, so that another worker has taken the run."""

        def renew(self, run_id: str, attempt: int, *, now: datetime, lease_seconds: float) -> bool:
            nonlocal renewals
            renewals += 1
            return False

    runner = _runner(rig, tmp_path, worker="slow", runs=Stolen(rig.database), lease_seconds=0.9)
    started = time.monotonic()
    assert await runner.work()
    assert time.monotonic() - started < 15
    assert (renewals, _results(rig)) == (1, [])


async def test_a_result_that_could_not_be_published_is_not_computed_again(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig)
    rig.kafka.away = True
    runner = _runner(rig, tmp_path)
    with pytest.raises(Exception, match="away"):
        await runner.work()
    rig.kafka.away = False
    rig.clock.now += timedelta(seconds=60)
    outbox = rig.outbox()
    assert [await outbox.relay([runs_source("recorder")]) for _ in range(2)] == [0, 1]
    assert json.loads(_results(rig)[0])["attempts"] == 1


def report_progress(arguments: JsonObject, folder: Path) -> JsonObject:
    """The work of a run that reports its progress."""
    write_progress(folder, 0.25, "a quarter is done", eta_seconds=3.0)
    time.sleep(2.5)
    return {}


async def test_the_progress_of_a_child_is_stored_while_it_works(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig)
    kind = replace(KIND, entry="tests.agents.delivery.test_runs:report_progress")
    runner = Runner(rig.outbox(), rig.runs, {"add": kind}, worker="one", folder=tmp_path, clock=rig.clock)
    assert await runner.work()
    with rig.database.table("runs") as runs:
        run = rig.runs.show(next(iter(runs)))
    assert run is not None
    assert run.progress == {"done": 0.25, "text": "a quarter is done", "eta_seconds": 3.0}


def is_locked(arguments: JsonObject, folder: Path) -> JsonObject:
    """The work of a run that looks whether its folder is locked."""
    with (folder / LOCK).open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {"locked": True}
    return {"locked": False}


async def test_a_child_holds_the_lock_of_its_folder_while_it_works(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig)
    kind = replace(KIND, entry="tests.agents.delivery.test_runs:is_locked")
    runner = Runner(rig.outbox(), rig.runs, {"add": kind}, worker="one", folder=tmp_path, clock=rig.clock)
    assert await runner.work()
    assert json.loads(_results(rig)[0]) == {"locked": True}


def test_a_child_that_finds_its_folder_taken_ends_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with lock_folder(tmp_path, 0.0), pytest.raises(SystemExit) as ended:
        lock_folder(tmp_path, 0.0)
    assert ended.value.code == FAILED_WITH_MESSAGE
    assert capsys.readouterr().err == (
        f"another process works in {tmp_path}: end it, or wait; the run is tried again\n"
    )
    lock_folder(tmp_path, 0.0).close()


async def test_an_effect_can_start_a_run_and_sees_unfinished_runs(rig: Rig) -> None:
    def outcome() -> Outcome:
        def effect() -> Sequence[Output | RunRequest]:
            return [] if rig.runs.unfinished("recorder") else [RunRequest(kind="add", arguments={"a": 1, "b": 1})]

        return Outcome(effect=effect)

    async def handle(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return [outcome() for _ in batch]

    await rig.delivery(handle).deliver([feedback(1)])
    await rig.delivery(handle).deliver([feedback(2)])
    assert [run.kind for run in rig.runs.unfinished("recorder")] == ["add"]
