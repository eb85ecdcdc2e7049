"""The watchdog ends a worker that makes no progress, but not one that works, waits or has just received a message."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from agents.delivery.heartbeat import Heartbeat, Stalled, Watched
from agents.delivery.worker import Worker
from schemas.envelope import decode
from schemas.fleet import WorkerReported
from tests.agents.delivery.rig import START, Rig


class Situation:
    """A worker whose lag, idle time and progress a test sets."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.delivery = self.rig.delivery()
        self.lag: int | None = 0
        self.idle = 0.0
        self.moved_at = 0.0
        self.problem: str | None = None
        self.run_waits: str | None = None
        self.lag_fails = False
        self.measured = 0
        self.heartbeat = Heartbeat(
            "recorder",
            "recorder-1",
            self.rig.kafka,
            clock=self.rig.clock,
            every_seconds=0.01,
            stalled_after_seconds=300,
            starved_after_seconds=20,
        )
        self.heartbeat.watch(
            Watched(
                worker=Worker(
                    agent="recorder",
                    topics=("feedback.v1",),
                    handlers={},
                    moved_at=lambda: self.moved_at,
                    problem=lambda: self.problem,
                ),
                delivery=self.delivery,
                lag=self._measure,
                idle_seconds=lambda: self.idle,
                run_waits=lambda: self.run_waits,
            )
        )
        self.heartbeat.state = "ready"

    async def _measure(self) -> int | None:
        self.measured += 1
        if self.lag_fails:
            raise RuntimeError("the consumer is between two connections")
        return self.lag

    def watch(self, starving_for: float = 0.0) -> None:
        if starving_for:
            self.heartbeat._starving_since = time.monotonic() - starving_for
        self.heartbeat._check_progress(self.lag)


@pytest.fixture
def situation() -> Situation:
    return Situation()


def test_a_worker_ends_when_messages_wait_and_none_arrives(situation: Situation) -> None:
    situation.lag, situation.idle = 5, 60
    situation.watch()
    with pytest.raises(Stalled, match="5 messages wait and none has arrived"):
        situation.watch(starving_for=21)


def test_a_worker_that_was_idle_for_long_has_time_to_receive_its_first_message(situation: Situation) -> None:
    situation.idle = 3600
    situation.watch()
    situation.lag = 1
    situation.watch()  # it has been idle for an hour, but the message has only just arrived
    with pytest.raises(Stalled, match="1 messages wait and none has arrived"):
        situation.watch(starving_for=21)


def test_a_worker_ends_when_its_batch_makes_no_progress_for_too_long(situation: Situation) -> None:
    situation.lag = 5
    situation.delivery.progressed_at = time.monotonic() - 299
    situation.watch()
    situation.delivery.progressed_at = time.monotonic() - 301
    with pytest.raises(Stalled, match="a batch has not moved"):
        situation.watch()


def test_a_worker_with_a_long_batch_goes_on_while_it_makes_progress(situation: Situation) -> None:
    situation.lag = 5
    situation.delivery.progressed_at = time.monotonic() - 3600
    situation.moved_at = time.monotonic() - 299
    situation.watch()
    situation.moved_at -= 2
    with pytest.raises(Stalled, match="a batch has not moved"):
        situation.watch()


def test_a_worker_waits_for_kafka_or_sql_without_a_limit(situation: Situation) -> None:
    situation.lag = 5
    situation.delivery.waiting = "Kafka does not answer"
    situation.delivery.progressed_at = time.monotonic() - 3600
    situation.watch(starving_for=3600)
    situation.idle = 3600
    situation.watch(starving_for=3600)
    situation.delivery.waiting, situation.idle = None, 0.0
    with pytest.raises(Stalled, match="a batch has not moved"):
        situation.watch()


async def test_a_heartbeat_names_the_worker_and_the_reason_it_waits(situation: Situation) -> None:
    situation.delivery.waiting = "Milvus does not answer"
    await situation.heartbeat.beat(7)
    (record,) = situation.rig.kafka.topic("fleet.v1")
    event, _ = decode("fleet.v1", record.value, record.headers, now=START)
    assert isinstance(event, WorkerReported)
    assert (event.worker, event.state, event.lag, event.detail) == (
        "recorder-1",
        "waiting",
        7,
        "Milvus does not answer",
    )


async def test_a_heartbeat_reports_a_problem_of_a_worker_that_works(situation: Situation) -> None:
    situation.problem = "support: a7 is not here"
    await situation.heartbeat.beat(0)
    situation.delivery.waiting = "Kafka does not answer"
    await situation.heartbeat.beat(0)
    records = situation.rig.kafka.topic("fleet.v1")
    reports = [decode("fleet.v1", record.value, record.headers, now=START)[0] for record in records]
    assert [(report.state, report.detail) for report in reports if isinstance(report, WorkerReported)] == [
        ("ready", "support: a7 is not here"),
        ("waiting", "Kafka does not answer"),
    ]


async def test_a_heartbeat_says_why_a_run_waits_and_takes_any_reason(situation: Situation) -> None:
    situation.run_waits = "the registry\nis away\0"
    await situation.heartbeat.beat(0)
    (record,) = situation.rig.kafka.topic("fleet.v1")
    event, _ = decode("fleet.v1", record.value, record.headers, now=START)
    assert isinstance(event, WorkerReported)
    assert (event.state, event.detail) == ("ready", "the registry is away")


async def test_a_report_that_cannot_be_made_is_logged_and_the_worker_goes_on(situation: Situation) -> None:
    situation.rig.kafka.most_bytes["fleet.v1"] = 10
    with capture_logs() as logs:
        beating = asyncio.ensure_future(situation.heartbeat.run())
        while len(logs) < 3:  # noqa: ASYNC110  # the heartbeat sends no signal
            await asyncio.sleep(0.01)
    assert not beating.done()
    assert {line["event"] for line in logs} == {"not reported"}
    situation.rig.kafka.most_bytes.clear()
    while not situation.rig.kafka.records:  # noqa: ASYNC110  # the heartbeat sends no signal
        await asyncio.sleep(0.01)
    beating.cancel()


async def test_a_heartbeat_goes_on_while_kafka_is_away_and_while_the_lag_is_unknown(situation: Situation) -> None:
    situation.rig.kafka.away = True
    situation.lag_fails = True
    beating = asyncio.ensure_future(situation.heartbeat.run())
    while situation.measured < 3:  # noqa: ASYNC110  # the heartbeat sends no signal
        await asyncio.sleep(0.01)
    situation.rig.kafka.away = False
    while not situation.rig.kafka.records:  # noqa: ASYNC110  # the heartbeat sends no signal
        await asyncio.sleep(0.01)
    beating.cancel()
    event, _ = decode(
        "fleet.v1", situation.rig.kafka.records[0].value, situation.rig.kafka.records[0].headers, now=START
    )
    assert isinstance(event, WorkerReported)
    assert (event.state, event.lag) == ("ready", None)
