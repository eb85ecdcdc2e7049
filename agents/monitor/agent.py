"""The monitor's handlers: answers, ratings, requests and time start checks; a check's result may be told as drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from agents.delivery.outcome import NOTHING, Outcome
from agents.delivery.worker import Batch, Handlers
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

    def handlers(self) -> Handlers:
        return {InteractionRecorded: Batch(self.on_interactions), DriftCheckRequested: self.on_request}

    async def on_interactions(self, batch: Sequence[Received[InteractionRecorded]]) -> Sequence[Outcome]:
        """Looks once for each task, at the task's last interaction of the batch."""
        last = {received.event.task: received for received in batch}
        return [self._look(each) if each is last[each.event.task] else NOTHING for each in batch]

    async def on_request(self, received: Received[DriftCheckRequested]) -> Outcome:
        asked = received.event.task
        if asked not in self._tasks:
            raise InvalidEvent(f"there is no task {asked}: add it to everlearn.toml and retry this letter")
        return Outcome(effect=lambda: self._checking.look(asked, self._now(), requested=True))

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

    def _look(self, received: Received[InteractionRecorded]) -> Outcome:
        task = received.event.task
        if task is None or task not in self._tasks:
            return NOTHING
        return Outcome(effect=lambda: self._checking.look(task, self._now()))
