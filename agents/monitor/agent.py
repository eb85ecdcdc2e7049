"""The monitor's handlers: answers, ratings, requests and ticks start checks; a check's result may become an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from agents.delivery.outcome import NOTHING, Outcome
from agents.delivery.worker import Batch, Handlers
from agents.monitor.controller import CheckController, failed_check
from schemas.delivery import Claim
from schemas.drift import DRIFT_CHECK
from schemas.envelope import Received
from schemas.errors import InvalidEvent
from schemas.event import Event, JsonObject
from schemas.interactions import InteractionRecorded
from schemas.learning import DriftCheckRequested
from schemas.promotions import ReleaseEvent
from schemas.tasks import Task


class Monitor:
    """Starts and records checks. It reads and writes in its outcomes' effects, inside the journal's transaction."""

    def __init__(self, *, tasks: Mapping[str, Task], controller: CheckController, now: Callable[[], datetime]) -> None:
        self._tasks, self._controller, self._now = tasks, controller, now

    def handlers(self) -> Handlers:
        return {InteractionRecorded: Batch(self.on_interactions), DriftCheckRequested: self.on_request}

    async def follow(self, received: Received[Event]) -> None:
        """Remembers the newest release of each task."""
        if isinstance(received.event, ReleaseEvent):
            self._controller.follow(received.event)

    async def on_interactions(self, batch: Sequence[Received[InteractionRecorded]]) -> Sequence[Outcome]:
        """Asks once for each task whether a check is due, at the task's last interaction in the batch."""
        last = {received.event.task: received for received in batch}
        return [self._check_if_due(each) if each is last[each.event.task] else NOTHING for each in batch]

    async def on_request(self, received: Received[DriftCheckRequested]) -> Outcome:
        task = received.event.task
        if task not in self._tasks:
            raise InvalidEvent(f"there is no task {task}: add it to everlearn.toml, then run 'everlearn dlq retry'")
        return Outcome(effect=lambda: self._controller.start(task))

    async def tick(self, scheduled: datetime) -> Outcome:
        """Starts what is due without traffic: late ratings, checks that had to wait, drift that lasts."""
        return Outcome(
            effect=lambda: [run for task in self._tasks for run in self._controller.start_if_due(task, scheduled)]
        )

    def done(self, claim: Claim, result: JsonObject) -> Outcome:
        """Records a check, and publishes the drift that it found."""
        check = DRIFT_CHECK.validate_python(result["check"])
        return Outcome(effect=lambda: self._controller.record(check))

    def failed(self, claim: Claim, error: str) -> Outcome:
        """Records that a check could not be made, and why."""
        check = failed_check(claim, error, self._now())
        return Outcome(effect=lambda: self._controller.record(check))

    def _check_if_due(self, received: Received[InteractionRecorded]) -> Outcome:
        task = received.event.task
        if task is None or task not in self._tasks:
            return NOTHING
        return Outcome(effect=lambda: self._controller.start_if_due(task, self._now()))
