"""A real worker process with a built-in fault.

Its agent counts feedback in the feature table, so that an effect that happens twice or never is visible.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.delivery.deliver import RetryPolicy
from agents.delivery.faust_app import StreamSettings
from agents.delivery.lifecycle import WorkerParts, run_worker
from agents.delivery.outcome import Outcome, Output
from agents.delivery.worker import Worker
from agents.wiring.run import configure_logging
from infra.kafka.aio import KafkaLookup, KafkaPublisher, KafkaTopicReader
from infra.kafka.topics import KafkaTopicLookup
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.journal import SqlInFlightMarks, SqlJournal
from infra.sql.kafka_topics import SqlKnownTopics
from infra.sql.runs import SqlLeases, SqlRunStore
from schemas.envelope import Received
from schemas.features import Interaction
from schemas.interactions import FeedbackGiven, InteractionRecorded
from schemas.kafka import KafkaConnection

POISON = "poison"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of the worker, and the fault."""

    bootstrap: str
    sql_url: str
    scratch: str
    name: str = "recorder-0"
    step: str | None = None
    """The step of delivery at which the fault happens, once."""
    action: str = "kill"
    """``kill``: SIGKILL to itself. ``raise``: an exception."""
    strike: int = 3
    """The occurrence of the step at which the fault happens, counted from 1."""
    batch_size: int = 50
    pause_seconds: float = 0.0
    """How long each event takes."""
    session_timeout_seconds: float = 6.0
    max_poll_interval_seconds: float = 300.0
    buffer: int = 1024
    shutdown_seconds: float = 5.0


class Fault:
    """Causes the fault once, also when the worker restarts: a file says that it has happened."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._seen = 0
        self._struck = Path(plan.scratch) / "struck"

    def __call__(self, step: str, identities: Sequence[str]) -> None:
        if step == "begun":
            with (Path(self._plan.scratch) / "begun").open("ab") as file:
                file.write(b".")  # so that a test can wait for it
        if step != self._plan.step or self._struck.exists():
            return
        self._seen += 1
        if self._seen < self._plan.strike:
            return
        self._struck.touch()
        if self._plan.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(f"a fault at {step}")


def counting(features: SqlFeatureTable, pause_seconds: float) -> Worker:
    """Returns an agent that adds one to an answer's revision for each feedback."""

    async def count(received: Received[FeedbackGiven]) -> Outcome:
        event = received.event
        if event.reason == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        if pause_seconds:
            await asyncio.sleep(pause_seconds)

        def effect() -> list[Output]:
            row = features.interactions([event.answer_id]).get(event.answer_id) or Interaction(
                answer_id=event.answer_id
            )
            row = replace(row, revision=row.revision + 1)
            features.put_interaction(row)
            fact = InteractionRecorded(answer_id=row.answer_id, outcome="pending", revision=row.revision)
            return [Output(event=fact, time=received.context.time)]

        return Outcome(effect=effect)

    return Worker(agent="recorder", topics=("feedback.v1",), handlers={FeedbackGiven: count})


def main(plan: Plan) -> int:
    configure_logging()
    connection = KafkaConnection(bootstrap_servers=plan.bootstrap)
    database = Database(plan.sql_url)
    parts = WorkerParts(
        database=database,
        journal=SqlJournal(database),
        marks=SqlInFlightMarks(database),
        runs=SqlRunStore(database),
        leases=SqlLeases(database),
        publisher=KafkaPublisher(connection),
        reader=KafkaTopicReader(connection),
        lookup=KafkaLookup(connection),
        topic_lookup=KafkaTopicLookup(connection),
        known_topics=SqlKnownTopics(database),
        stream=StreamSettings(
            kafka=connection,
            session_timeout_seconds=plan.session_timeout_seconds,
            max_poll_interval_seconds=plan.max_poll_interval_seconds,
            buffer=plan.buffer,
        ),
        scratch=Path(plan.scratch),
        heartbeat_seconds=0.5,
        check_topics_seconds=2.0,
        stalled_after_seconds=30.0,
        shutdown_seconds=plan.shutdown_seconds,
        retry=RetryPolicy(first_pause_seconds=0.05, longest_pause_seconds=1.0, within_seconds=10.0),
        on_step=Fault(plan),
    )
    worker = replace(counting(SqlFeatureTable(database), plan.pause_seconds), batch_size=plan.batch_size)
    return asyncio.run(run_worker(worker.agent, lambda: worker, parts, plan.name, instance=plan.name))


def work(plan: Plan, log: Path) -> None:
    """Runs the worker as the only work of this process, writes its output to the log, and exits with its code."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    code = main(plan)
    sys.stderr.flush()
    os._exit(code)
