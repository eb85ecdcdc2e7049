"""The monitor's handlers: answers, ratings, requests and time start checks; a check's result may be told as drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from agents.delivery.outcome import NOTHING, Outcome
from agents.monitor.checking import Checking, failed_check
from schemas.delivery import Claim
from schemas.drift import DRIFT_CHECK
from schemas.envelope import Received
from schemas.errors import InvalidEvent
from schemas.event import Event
from schemas.interactions import InteractionRecorded
from schemas.learning import DriftCheckRequested
from schemas.promotions import ReleaseEvent
from schemas.tasks import Task


class Monitor:
    """Nothing is read or written here: all of it happens in the effects, inside the journal's transaction."""

    def __init__(self, *, tasks: Mapping[str, Task], checking: Checking, now: Callable[[], datetime]) -> None:
        self._tasks = tasks
        self._checking = checking
        self._now = now

    async def follow(self, received: Received[Event]) -> None:
        """Keeps what promotions.v1 says of each task."""
        if isinstance(received.event, ReleaseEvent):
            self._checking.follow(received.event)

    async def handle(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """Of a batch's interactions, each task's last one has a look; a request is looked at in any case."""
        last = {each.event.task: each.identity for each in batch if isinstance(each.event, InteractionRecorded)}
        return [self._outcome(each, set(last.values())) for each in batch]

    async def tick(self, scheduled: datetime) -> Outcome:
        """What is due without traffic: late ratings, checks that had to wait, drift that is to be told again."""
        return Outcome(effect=lambda: [run for task in self._tasks for run in self._checking.look(task, scheduled)])

    def done(self, claim: Claim, result: dict[str, Any]) -> Outcome:
        """A check's result becomes its row, and what it tells."""
        check = DRIFT_CHECK.validate_python(result["check"])
        return Outcome(effect=lambda: self._checking.keep(check))

    def failed(self, claim: Claim, error: str) -> Outcome:
        """A check that could not be made becomes a row that says why."""
        check = failed_check(claim, error, self._now())
        return Outcome(effect=lambda: self._checking.keep(check))

    def _outcome(self, received: Received[Event], looking: set[str]) -> Outcome:
        event = received.event
        if isinstance(event, DriftCheckRequested):
            asked = event.task
            if asked not in self._tasks:
                raise InvalidEvent(f"there is no task {asked}: add it to everlearn.toml and retry this letter")
            return Outcome(effect=lambda: self._checking.look(asked, self._now(), requested=True))
        task = event.task if isinstance(event, InteractionRecorded) else None
        if task is None or task not in self._tasks or received.identity not in looking:
            return NOTHING
        return Outcome(effect=lambda: self._checking.look(task, self._now()))
