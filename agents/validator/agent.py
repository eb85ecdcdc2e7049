"""Turns a trained adapter into a validation run, and the end of the run into a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.ports import Runs
from agents.delivery.worker import Handlers
from agents.validator import AGENT
from agents.validator.evaluation import reason_to_reject
from agents.validator.ports import Reject, RetentionSuite
from agents.validator.report import rejection, verdict_event
from schemas.datasets import DATASET_ROW
from schemas.delivery import Claim, Run
from schemas.envelope import Received
from schemas.event import Event, JsonObject
from schemas.learning import AdapterTrained
from schemas.promotions import ReleaseEvent
from schemas.tasks import Task

KIND: Final = "validate"
EARLIER_RUNS: Final = 1000
"""How many runs of a task are searched for an earlier verdict on the same adapter, and for other candidates."""


def is_try(run: Run, champion: str | None) -> bool:
    """Returns whether a run has judged, or is to judge, a candidate by its answers, against this champion.

    Tries count from the champion's promotion: before it they were judged against another one.
    """
    judges = run.state != "failed" and (run.state != "done" or "current.rows" in run.result.get("scores", ()))
    return judges and run.arguments.get("champion") == champion


class Validator:
    """Requests one run for each adapter, and reports its verdict."""

    def __init__(
        self,
        *,
        tasks: Mapping[str, Task],
        runs: Runs,
        suite: RetentionSuite,
        reject: Reject,
        settings_location: Mapping[str, Any],
    ) -> None:
        """``settings_location``: arguments of every run, by which it finds the same settings."""
        self._tasks, self._runs, self._suite, self._reject = tasks, runs, suite, reject
        self._settings_location = dict(settings_location)
        self._releases: dict[str, ReleaseEvent] = {}

    def handlers(self) -> Handlers:
        return {AdapterTrained: self.validate}

    async def follow(self, received: Received[Event]) -> None:
        """Notes the release state of a task: its champion is the reference for the next candidate."""
        event = received.event
        if isinstance(event, ReleaseEvent):
            known = self._releases.get(event.task)
            if known is None or event.sequence > known.sequence:
                self._releases[event.task] = event

    async def validate(self, received: Received[AdapterTrained]) -> Outcome:
        """Starts a validation, or rejects an adapter that cannot be evaluated."""
        event = received.event
        reason = reason_to_reject(event.task, self._tasks)
        if reason is not None:
            return Outcome(outputs=(rejection(event.task, event.adapter_id, (reason,)),))
        return Outcome(effect=lambda: self._request(event))

    def releases(self) -> Mapping[str, ReleaseEvent]:
        """Returns the newest release of each task that this worker knows of."""
        return dict(self._releases)

    def given_up(self, received: Received[AdapterTrained], reason: str) -> Sequence[Output]:
        """Rejects an adapter whose event went to the dead letters."""
        event = received.event
        return (rejection(event.task, event.adapter_id, (f"could not be validated: {reason}",)),)

    def _request(self, event: AdapterTrained) -> Sequence[Output | RunRequest]:
        """Asks for one run for each adapter. An id is the hash of the content, so an earlier verdict still holds.

        It is published again for whoever trained the same adapter again.
        """
        runs = self._runs.of_task(AGENT, event.task, EARLIER_RUNS)
        for run in runs:
            if run.arguments.get("adapter_id") != event.adapter_id or run.state == "failed":
                continue
            return () if run.state != "done" else (verdict_event(run.arguments, run.result),)
        release = self._releases.get(event.task)
        champion = release.champion if release is not None else None
        if champion == event.adapter_id:
            return (rejection(event.task, event.adapter_id, ("it is the champion already",)),)
        arguments = {
            **self._settings_location,
            "task": event.task,
            "adapter_id": event.adapter_id,
            "dataset_id": event.dataset_id,
            "champion": champion,
            "earlier": [run.arguments["dataset_id"] for run in runs if is_try(run, champion)],
        }
        return (RunRequest(kind=KIND, arguments=arguments),)

    def done(self, claim: Claim, result: JsonObject) -> Outcome:
        """Reports the verdict, and adds the rows that an accepted adapter was judged on to the retention suite."""

        def effect() -> Sequence[Output | RunRequest]:
            if result["accepted"]:
                rows = [DATASET_ROW.validate_python(values) for values in result["rows"]]
                at = datetime.fromisoformat(result["at"])
                self._suite.add(claim.arguments["task"], rows, claim.arguments["dataset_id"], at)
            return ()

        return Outcome(outputs=(verdict_event(claim.arguments, result),), effect=effect)

    def failed(self, claim: Claim, reason: str) -> Outcome:
        """Rejects an adapter when every attempt at its validation failed."""
        task, adapter_id = claim.arguments["task"], claim.arguments["adapter_id"]
        reasons = (f"could not be validated: {reason}",)
        return Outcome(outputs=(rejection(task, adapter_id, reasons),), after=lambda: self._reject(adapter_id, reasons))
