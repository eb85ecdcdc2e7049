"""Runs: long work in a child process. Its lease, attempts and result survive the death of its worker."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from agents.delivery.child import FAILED_WITH_MESSAGE, LOCK, lock_folder
from agents.delivery.outbox import Cause
from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.progress import write_progress
from agents.delivery.runs import Runner, runs_source
from agents.delivery.worker import RunKind
from infra.memory.runs import MemoryRunStore
from infra.sql.database import Database
from infra.sql.runs import SqlRunStore
from schemas.delivery import Claim, Run
from schemas.envelope import Received, new_context
from schemas.errors import EverlearnError, Unavailable
from schemas.event import Event, JsonObject
from schemas.interactions import InteractionRecorded
from schemas.learning import AdapterRejected
from schemas.topics import MAX_RECORD_BYTES
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
    if attempts <= arguments.get("waits", 0):
        raise Unavailable("the registry is away: start it")
    if attempts <= arguments.get("full_disks", 0):
        # The nearest thing to a full disk that a process can make for itself.
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        (folder / "weights").write_bytes(b"x" * 10_000)
    if arguments.get("loss") == "nan":
        return {"loss": float("nan")}
    if arguments.get("kills_its_worker"):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)  # the kernel ends this process, too
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
    rig: Rig,
    folder: Path,
    worker: str = "one",
    *,
    runs: MemoryRunStore | None = None,
    lease_seconds: float = 30.0,
    kind: RunKind = KIND,
) -> Runner:
    return Runner(
        rig.outbox(),
        runs or rig.runs,
        {"add": kind},
        worker=worker,
        folder=folder,
        clock=rig.clock,
        lease_seconds=lease_seconds,
    )


def _results(rig: Rig) -> list[str]:
    return [json.loads(record.value or b"")["adapter_id"] for record in rig.outputs()]


async def _work_to_the_end(rig: Rig, runner: Runner) -> tuple[int, Run]:
    """Lets a runner work until nothing is due any more; returns how often it did, and the only run."""
    times = 0
    while await runner.work():
        times += 1
        rig.clock.now += timedelta(seconds=60)
    with rig.database.table("runs") as runs:
        (run_id,) = runs
    run = rig.runs.show(run_id)
    assert run is not None
    return times, run


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
    assert await runner.work()
    assert runner.waiting == "Kafka in memory is away: bring it back"
    rig.kafka.away = False
    rig.clock.now += timedelta(seconds=60)
    assert not await runner.work()
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


def _refuses(claim: Claim, result: JsonObject) -> Outcome:
    raise ValueError("no event can say that")


def _says_nan(claim: Claim, result: JsonObject) -> Outcome:
    event = AdapterRejected(task="routing", adapter_id="a", scores={"loss": float("nan")}, reasons=("worse",))
    return Outcome(outputs=[Output(event=event)])


def _says_too_much(claim: Claim, result: JsonObject) -> Outcome:
    return _report(claim, "x" * MAX_RECORD_BYTES, 1)


def _fails_in_its_effect(claim: Claim, result: JsonObject) -> Outcome:
    def effect() -> Sequence[Output | RunRequest]:
        raise RuntimeError("in the transaction")

    return Outcome(effect=effect)


@pytest.mark.parametrize(
    ("done", "reason"),
    [
        (_refuses, "ValueError: no event can say that"),
        (_says_nan, "finite number"),
        (_says_too_much, "more than a topic takes"),
        (_fails_in_its_effect, "RuntimeError: in the transaction"),
    ],
)
async def test_a_run_whose_result_cannot_be_reported_ends_as_failed_and_is_not_computed_again(
    rig: Rig, tmp_path: Path, done: Any, reason: str
) -> None:
    await _ask(rig)
    times, run = await _work_to_the_end(rig, _runner(rig, tmp_path, kind=replace(KIND, done=done)))
    assert (times, run.state) == (3, "failed")
    (error,) = _results(rig)
    assert reason in error
    assert (tmp_path / run.run_id / "attempts").read_text() == "1"


async def test_a_run_ends_as_failed_even_when_its_failure_cannot_be_reported(rig: Rig, tmp_path: Path) -> None:
    def failed(claim: Claim, reason: str) -> Outcome:
        raise ValueError("not that either")

    await _ask(rig)
    times, run = await _work_to_the_end(rig, _runner(rig, tmp_path, kind=replace(KIND, done=_refuses, failed=failed)))
    assert (times, run.state) == (3, "failed")
    assert run.result == {"error": "ValueError: no event can say that"}
    assert _results(rig) == []


async def test_a_run_whose_outputs_kafka_will_never_take_is_reported_as_failed(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig)
    rig.kafka.most_bytes["interactions.v1"] = 1000
    kind = replace(KIND, done=lambda claim, result: _report(claim, "x" * 2000, 1))
    times, run = await _work_to_the_end(rig, _runner(rig, tmp_path, kind=kind))
    assert (times, run.state) == (1, "done")
    assert _results(rig) == ["Kafka refuses a record of interactions.v1: raise its max.message.bytes"]
    outbox = rig.outbox()
    assert [await outbox.relay([runs_source("recorder")]) for _ in range(2)] == [0, 0]


async def test_an_output_that_kafka_will_never_take_does_not_hold_up_the_outputs_of_other_runs(
    rig: Rig, tmp_path: Path
) -> None:
    await _ask(rig)
    rig.kafka.away = True
    kind = replace(KIND, done=lambda claim, result: _report(claim, "x" * 2000, 1))
    await _work_to_the_end(rig, _runner(rig, tmp_path, kind=kind))
    cause = Cause(identity=f"{runs_source('recorder')} z", context=new_context("/tests", now=rig.clock.now))
    other = InteractionRecorded(answer_id="other", outcome="pending", revision=1)
    with pytest.raises(Unavailable):
        await rig.outbox().settle([cause], [Outcome(outputs=[Output(event=other)])], {})
    rig.clock.now += timedelta(seconds=60)
    rig.kafka.away = False
    rig.kafka.most_bytes["interactions.v1"] = 1000
    outbox = rig.outbox()
    assert [await outbox.relay([runs_source("recorder")]) for _ in range(3)] == [0, 2, 0]
    assert [record.key for record in rig.outputs()] == [b"other"]


@pytest.mark.parametrize("how", ["waits", "full_disks"])
async def test_an_attempt_that_met_something_unavailable_does_not_count(rig: Rig, tmp_path: Path, how: str) -> None:
    await _ask(rig, **{how: 4})
    runner = _runner(rig, tmp_path)
    assert await runner.work()
    with rig.database.table("runs") as runs:
        run = rig.runs.show(next(iter(runs)))
    assert run is not None
    assert run.progress["text"] == f"waiting: {runner.waiting}"
    rig.clock.now += timedelta(seconds=60)
    times, run = await _work_to_the_end(rig, runner)
    assert (times, run.state, run.attempt) == (4, "done", 5)
    assert runner.waiting is None


async def test_a_result_that_is_not_json_fails_the_run(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig, loss="nan")
    _, run = await _work_to_the_end(rig, _runner(rig, tmp_path))
    assert run.state == "failed"
    assert "not JSON compliant" in _results(rig)[0]


async def test_a_run_whose_worker_died_at_each_attempt_ends_as_failed_at_the_next_claim(
    rig: Rig, tmp_path: Path
) -> None:
    await _ask(rig)
    for _ in range(3):  # a worker that restarts under its name gets its run back at once
        assert rig.runs.claim("recorder", "one", now=rig.clock.now, lease_seconds=30) is not None
    times, run = await _work_to_the_end(rig, _runner(rig, tmp_path))
    assert (times, run.state) == (1, "failed")
    assert _results(rig) == ["its worker died during each of 3 attempts"]
    assert not (tmp_path / run.run_id).exists()


def _attempts(folder: Path) -> int:
    return sum(int(path.read_text() or "0") for path in folder.glob("*/attempts"))


async def test_stopping_a_worker_politely_does_not_count_against_its_run(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig, seconds=60)
    runner = _runner(rig, tmp_path)
    for attempt in range(1, 5):
        working = asyncio.ensure_future(runner.work())
        while _attempts(tmp_path) < attempt:  # noqa: ASYNC110  # another process counts them
            await asyncio.sleep(0.05)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    claim = rig.runs.claim("recorder", "two", now=rig.clock.now, lease_seconds=30)
    assert claim is not None
    assert (claim.attempt, claim.counted) == (5, 1)


WORKER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from agents.delivery.outbox import Outbox
from agents.delivery.runs import Runner
from infra.memory.kafka import MemoryKafka
from infra.sql.database import Database
from infra.sql.journal import SqlJournal
from infra.sql.runs import SqlRunStore
from tests.agents.delivery.test_runs import KIND

async def work():
    database = Database(sys.argv[1])
    clock = lambda: datetime.now(UTC)
    kafka, runs = MemoryKafka(), SqlRunStore(database)
    outbox = Outbox(
        "recorder", database=database, journal=SqlJournal(database), runs=runs, publisher=kafka, clock=clock
    )
    assert await Runner(outbox, runs, {"add": KIND}, worker="one", folder=Path(sys.argv[2]), clock=clock).work()
    print(*(record.value.decode() for record in kafka.records))

asyncio.run(work())
"""


def test_a_run_that_kills_its_worker_ends_as_failed_after_three_lives(migrated_sqlite_url: str, tmp_path: Path) -> None:
    database = Database(migrated_sqlite_url)
    store = SqlRunStore(database)
    now = datetime.now(UTC)
    context = {"id": "e1", "source": "/tests", "time": now.isoformat()}
    store.add("recorder", "r1", "add", {"a": 1, "b": 2, "kills_its_worker": True}, context, now)
    command = [sys.executable, "-c", WORKER, migrated_sqlite_url, str(tmp_path)]
    lives = [subprocess.run(command, capture_output=True, text=True) for _ in range(4)]
    assert [life.returncode for life in lives] == [-signal.SIGKILL] * 3 + [0]
    assert "its worker died during each of 3 attempts" in lives[-1].stdout
    run = store.show("r1")
    assert run is not None
    assert run.state == "failed"
    database.close()


class Moody(MemoryRunStore):
    """A run store that fails as often as each of its methods is told to."""

    def __init__(self, rig: Rig, **failures: list[Exception]) -> None:
        super().__init__(rig.database)
        self.failures = failures

    def _fail(self, method: str) -> None:
        if self.failures.get(method):
            raise self.failures[method].pop(0)

    def claim(self, *args: Any, **options: Any) -> Claim | None:
        self._fail("claim")
        return super().claim(*args, **options)

    def renew(self, *args: Any, **options: Any) -> bool:
        self._fail("renew")
        return super().renew(*args, **options)

    def release(self, *args: Any, **options: Any) -> None:
        self._fail("release")
        super().release(*args, **options)


async def test_whatever_the_run_store_raises_the_worker_goes_on(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig)
    store = Moody(rig, claim=[Unavailable("SQL is away"), TypeError("a defect")])
    reasons: list[str | None] = []

    async def sleep(seconds: float) -> None:
        reasons.append(runner.waiting)
        if len(reasons) == 3:
            raise asyncio.CancelledError

    runner = _runner(rig, tmp_path, runs=store)
    runner._sleep = sleep
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await runner.run()
    assert reasons == ["SQL is away", "TypeError: a defect", None]
    assert [line["reason"] for line in logs if line["event"] == "waiting"] == reasons[:2]
    assert len(_results(rig)) == 1


async def test_a_run_is_given_back_once_sql_answers_again(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig, waits=1)
    store = Moody(rig, release=[Unavailable("SQL is away"), Unavailable("SQL is away")])
    runner = _runner(rig, tmp_path, runs=store)
    runner._sleep = rig.clock.sleep
    assert await runner.work()
    assert store.failures["release"] == []
    claim = rig.runs.claim("recorder", "two", now=rig.clock.now + timedelta(seconds=60), lease_seconds=30)
    assert claim is not None
    assert (claim.attempt, claim.counted) == (2, 1)


async def test_a_run_goes_on_while_its_lease_cannot_be_renewed(rig: Rig, tmp_path: Path) -> None:
    await _ask(rig, seconds=3)
    store = Moody(rig, renew=[Unavailable("SQL is away")])
    _, run = await _work_to_the_end(rig, _runner(rig, tmp_path, runs=store, lease_seconds=0.9))
    assert (store.failures["renew"], run.state) == ([], "done")
