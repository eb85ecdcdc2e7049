"""A monitor on memory twins: tests deliver events and ticks, finish its runs, and read what it published."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from agents.delivery.outbox import Cause, Outbox
from agents.delivery.outcome import Outcome
from agents.delivery.worker import dispatcher
from agents.monitor import AGENT
from agents.monitor.agent import Monitor
from agents.monitor.controller import CheckController
from agents.monitor.windows import figures as in_window
from infra.memory.database import MemoryDatabase
from infra.memory.drift import MemoryAnswers, MemoryDriftChecks
from infra.memory.features import MemoryFeatureTable
from infra.memory.journal import MemoryJournal
from infra.memory.kafka import MemoryKafka
from infra.memory.runs import MemoryRunStore
from schemas.delivery import Claim
from schemas.drift import DRIFT_CHECK, DriftCheck
from schemas.envelope import EventContext, Position, Received, decode, identity
from schemas.event import Event
from schemas.features import Interaction
from schemas.interactions import InteractionRecorded
from schemas.learning import DriftDetected, Remedy, Window
from schemas.topics import TOPIC_OF
from tests.agents.monitor.rows import ROUTING, SCHEDULE, START, SUPPORT


class CountingAnswers(MemoryAnswers):
    """Counts how often answers were counted."""

    counted = 0

    def count(self, *arguments: Any, **named: Any) -> int:
        self.counted += 1
        return super().count(*arguments, **named)


class Room:
    """A monitor and everything that it needs."""

    def __init__(self) -> None:
        self.now = START + timedelta(hours=1)
        database = MemoryDatabase()
        self.answers = CountingAnswers(database)
        self.checks = MemoryDriftChecks(database)
        self.runs = MemoryRunStore(database)
        self.features = MemoryFeatureTable(database)
        self.kafka = MemoryKafka()
        self._numbers = itertools.count()
        self._outbox = Outbox(
            AGENT,
            database=database,
            journal=MemoryJournal(database),
            runs=self.runs,
            publisher=self.kafka,
            clock=lambda: self.now,
        )
        self.restart()

    def restart(self) -> None:
        """Replaces the monitor by one that has not followed any topic yet."""
        controller = CheckController(
            answers=self.answers,
            checks=self.checks,
            runs=self.runs,
            policy_of=lambda _: SCHEDULE,
            settings_location={"config": None},
        )
        tasks = {"routing": ROUTING, "support": SUPPORT}
        self.monitor = Monitor(tasks=tasks, controller=controller, now=lambda: self.now)

    async def answer(self, *rows: Interaction) -> None:
        """Writes rows as the recorder does, and delivers their events in one batch."""
        for row in rows:
            self.features.put_interaction(row)
        await self.deliver(
            *(
                InteractionRecorded(answer_id=row.answer_id, task=row.task, outcome=row.outcome, revision=1)
                for row in rows
            )
        )

    async def deliver(self, *events: Event) -> None:
        batch = [self.received(event) for event in events]
        await self._commit(batch, await dispatcher("monitor", self.monitor.handlers())(batch))

    async def follow(self, event: Event) -> None:
        await self.monitor.follow(self.received(event))

    async def tick(self) -> None:
        await self._commit_one(f"tick-{next(self._numbers)}", await self.monitor.tick(self.now))

    def claim(self) -> Claim | None:
        return self.runs.claim(AGENT, "w1", now=self.now, lease_seconds=10)

    async def finish(
        self, verdict: str | None = None, remedy: Remedy = "none", *, to_label: tuple[str, ...] = (), **figures: float
    ) -> DriftCheck:
        """Ends the unfinished check with this verdict; returns the check as it is stored."""
        claim = self.claim()
        assert claim is not None
        newest = self.features.recent(claim.arguments["task"], 10_000)
        times = sorted(row.answered_at for row in newest if row.answered_at is not None)[-4:]
        check = DriftCheck(
            check_id=claim.run_id,
            task=claim.arguments["task"],
            checked_at=self.now,
            baseline=claim.arguments["baseline"],
            reference=Window(start=START, end=START, rows=6),
            current=Window(start=times[0], end=times[-1], rows=4),
            findings=(),
            verdict=verdict,
            remedy=remedy,
            reasons=("because",),
            report_uri="file:///r.html",
            figures={**in_window(newest), **figures},
            to_label=to_label,
        )
        await self.end(claim, self.monitor.done(claim, {"check": DRIFT_CHECK.dump_python(check, mode="json")}))
        return self.checks.recent(check.task, 1)[0]

    async def end(self, claim: Claim, outcome: Outcome) -> None:
        self.runs.finish(claim.run_id, claim.attempt, state="done", result={}, now=self.now)
        await self._commit_one(f"run-{claim.run_id}", outcome)

    def published(self) -> list[DriftDetected]:
        found = []
        for record in self.kafka.topic("drift.v1"):
            event, _ = decode(record.topic, record.value, record.headers, now=self.now)
            assert isinstance(event, DriftDetected)
            found.append(event)
        return found

    def received(self, event: Event) -> Received[Event]:
        number = next(self._numbers)
        context = EventContext(id=f"e{number}", source="/test", time=self.now)
        position = Position(topic=TOPIC_OF[type(event)].name, partition=0, offset=number)
        return Received(event=event, context=context, position=position)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    async def _commit(self, batch: Sequence[Received[Event]], outcomes: Sequence[Outcome]) -> None:
        causes = [Cause(identity=each.identity, context=each.context) for each in batch]
        await self._outbox.settle(causes, outcomes, {})

    async def _commit_one(self, event_id: str, outcome: Outcome) -> None:
        context = EventContext(id=event_id, source="/test", time=self.now)
        await self._outbox.settle([Cause(identity=identity(context), context=context)], [outcome], {})
