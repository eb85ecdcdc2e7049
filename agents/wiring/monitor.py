"""The monitor's parts: answers and checks in SQL; whatever takes long happens in a child process."""

from __future__ import annotations

from datetime import UTC, datetime

from agents.delivery.worker import Follower, RunKind, Tick, Worker
from agents.monitor.agent import Monitor
from agents.monitor.checking import AGENT, CHECK, Checking
from agents.monitor.schedule import SchedulePolicy
from agents.wiring.children import place
from agents.wiring.database import database_of
from infra.settings import Settings
from infra.sql.drift import SqlAnswers, SqlDriftChecks
from infra.sql.runs import SqlRunStore

CHECK_NICENESS = 5
"""A check is half a minute's work, and everything that helps against drift waits for it."""


def build(settings: Settings) -> Worker:
    """A worker over the configured database."""
    policy = settings.monitor
    database = database_of(settings)
    checking = Checking(
        answers=SqlAnswers(database),
        checks=SqlDriftChecks(database),
        runs=SqlRunStore(database),
        policy=SchedulePolicy(
            reference_rows=policy.reference_rows,
            current_rows=policy.current_rows,
            every_rows=policy.every_rows,
            cool_down_seconds=policy.cool_down_seconds,
        ),
        arguments=place(settings),
    )
    monitor = Monitor(tasks=settings.tasks, checking=checking, now=lambda: datetime.now(UTC))
    return Worker(
        agent=AGENT,
        topics=("interactions.v1", "requests.v1"),
        handlers=monitor.handlers(),
        followers=(Follower(topic="promotions.v1", apply=monitor.follow),),
        ticks=(Tick(name="look", every_seconds=policy.tick_seconds, handle=monitor.tick),),
        runs=(
            RunKind(
                name=CHECK,
                entry="agents.wiring.drift_check:run",
                done=monitor.done,
                failed=monitor.failed,
                niceness=CHECK_NICENESS,
            ),
        ),
    )
