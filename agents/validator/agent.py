"""The validator's handler: a trained adapter becomes a validation run, and the run's end a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.worker import Handlers
from agents.validator.evaluation import fault
from agents.validator.ports import Judge, Retention, Runs
from agents.validator.report import rejection, verdict_event
from schemas.datasets import DATASET_ROW
from schemas.delivery import Claim
from schemas.envelope import Received
from schemas.event import Event
from schemas.learning import AdapterTrained
from schemas.promotions import ReleaseEvent
from schemas.tasks import Task

AGENT: Final = "validator"
KIND: Final = "validate"
REMEMBERED: Final = 1000
"""Runs of a task that are looked through for an earlier verdict."""


class Validator:
    """Asks for a run for each adapter that was trained, and tells what came of it."""

    def __init__(
        self, *, tasks: Mapping[str, Task], runs: Runs, retention: Retention, judge: Judge, where: Mapping[str, Any]
    ) -> None:
        """``where``: what the run's process needs to find the same settings; goes along with every run."""
        self._tasks, self._runs, self._retention, self._judge = tasks, runs, retention, judge
        self._where = dict(where)
        self._releases: dict[str, ReleaseEvent] = {}

    async def follow(self, received: Received[Event]) -> None:
        """A release: its champion is what the next candidate of the task is held against."""
        event = received.event
        if isinstance(event, ReleaseEvent):
            known = self._releases.get(event.task)
            if known is None or event.sequence > known.sequence:
                self._releases[event.task] = event

    def handlers(self) -> Handlers:
        return {AdapterTrained: self.validate}

    async def validate(self, received: Received[AdapterTrained]) -> Outcome:
        event = received.event
        reason = fault(event.task, self._tasks)
        if reason is not None:
            return Outcome(outputs=(rejection(event.task, event.adapter_id, (reason,)),))
        return Outcome(effect=lambda: self._request(event))

    def _request(self, event: AdapterTrained) -> Sequence[Output | RunRequest]:
        """One run an adapter: an id is its content, so that the verdict on it stands and is told again."""
        for run in self._runs.of_task(AGENT, event.task, REMEMBERED):
            if run.arguments.get("adapter_id") != event.adapter_id or run.state == "failed":
                continue
            return () if run.state != "done" else (verdict_event(run.arguments, run.result),)
        release = self._releases.get(event.task)
        champion = release.champion if release is not None else None
        if champion == event.adapter_id:
            return (rejection(event.task, event.adapter_id, ("it is the champion already",)),)
        arguments = {
            **self._where,
            "task": event.task,
            "adapter_id": event.adapter_id,
            "dataset_id": event.dataset_id,
            "champion": champion,
        }
        return (RunRequest(kind=KIND, arguments=arguments),)

    def done(self, claim: Claim, result: dict[str, Any]) -> Outcome:
        """The verdict as an event; what an accepted adapter was judged on joins the retention suite with it."""

        def effect() -> Sequence[Output | RunRequest]:
            if result["accepted"]:
                rows = [DATASET_ROW.validate_python(values) for values in result["rows"]]
                at = datetime.fromisoformat(result["at"])
                self._retention.add(claim.arguments["task"], rows, claim.arguments["dataset_id"], at)
            return ()

        return Outcome(outputs=(verdict_event(claim.arguments, result),), effect=effect)

    def failed(self, claim: Claim, reason: str) -> Outcome:
        task, adapter_id = claim.arguments["task"], claim.arguments["adapter_id"]
        reasons = (f"could not be validated: {reason}",)
        return Outcome(outputs=(rejection(task, adapter_id, reasons),), after=lambda: self._judge(adapter_id, reasons))
