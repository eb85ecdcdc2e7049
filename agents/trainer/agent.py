"""Turns drift and requests into training runs, and the end of a run into an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agents.delivery.outcome import NOTHING, Outcome, Output, RunRequest
from agents.delivery.ports import Runs
from agents.delivery.worker import Handlers
from agents.trainer import AGENT
from schemas.delivery import Claim
from schemas.envelope import Received
from schemas.event import JsonObject
from schemas.learning import AdapterTrained, DriftDetected, TrainingDeclined, TrainingRequested
from schemas.tasks import Task, unknown_task

KIND: Final = "train"


class Trainer:
    """Starts at most one training of a task at a time."""

    def __init__(
        self, *, tasks: Mapping[str, Task], metrics: Sequence[str], runs: Runs, settings_location: Mapping[str, Any]
    ) -> None:
        """``metrics``: the metrics that the validator knows. ``settings_location``: arguments of every run."""
        self._tasks, self._metrics, self._runs = tasks, tuple(metrics), runs
        self._settings_location = dict(settings_location)

    def handlers(self) -> Handlers:
        return {DriftDetected: self.on_drift, TrainingRequested: self.on_request}

    async def on_drift(self, received: Received[DriftDetected]) -> Outcome:
        """Starts a training if the monitor found that one would help."""
        return self._train(received) if received.event.remedy == "retrain" else NOTHING

    async def on_request(self, received: Received[TrainingRequested]) -> Outcome:
        """Starts a training that a user asked for."""
        return self._train(received)

    def given_up(self, received: Received[DriftDetected | TrainingRequested], reason: str) -> Sequence[Output]:
        """Tells whoever waits for a training whose request went to the dead letters."""
        return _declined(received.event.task, reason, received.context.id).outputs

    def done(self, claim: Claim, result: JsonObject) -> Outcome:
        """Reports the adapter that a run trained, or the reason why it trained none."""
        task, cause = claim.arguments["task"], claim.arguments["cause"]
        if "declined" in result:
            return _declined(task, str(result["declined"]), cause)
        event = AdapterTrained(
            task=task,
            adapter_id=result["adapter_id"],
            base_model=result["base_model"],
            dataset_id=result["dataset_id"],
            run_id=claim.run_id,
            cause=cause,
            fingerprint=result.get("fingerprint"),
        )
        return Outcome(outputs=(Output(event=event),))

    def failed(self, claim: Claim, reason: str) -> Outcome:
        """Reports a run whose every attempt failed."""
        return _declined(claim.arguments["task"], f"the training failed: {reason}", claim.arguments["cause"])

    def _train(self, received: Received[DriftDetected | TrainingRequested]) -> Outcome:
        task, cause = received.event.task, received.context.id
        return Outcome(effect=lambda: [self._start(task, cause)])

    def _start(self, task: str, cause: str) -> Output | RunRequest:
        """Runs inside the journal's transaction, so that two workers cannot both start a training."""
        reason = self._reason_to_decline(task)
        if reason is not None:
            return Output(event=TrainingDeclined(task=task, reason=reason, cause=cause))
        return RunRequest(kind=KIND, arguments={**self._settings_location, "task": task, "cause": cause})

    def _reason_to_decline(self, name: str) -> str | None:
        task = self._tasks.get(name)
        if task is None:
            return unknown_task(name, self._tasks)
        if task.metric not in self._metrics:
            return (
                f"the task {name} has no metric to judge an adapter by: set metric to one of {', '.join(self._metrics)}"
            )
        under_way = [run for run in self._runs.unfinished(AGENT) if run.arguments.get("task") == name]
        if under_way:
            return f"a training of {name} is under way (run {under_way[0].run_id}): ask again when it has ended"
        return None


def _declined(task: str, reason: str, cause: str | None) -> Outcome:
    return Outcome(outputs=(Output(event=TrainingDeclined(task=task, reason=reason, cause=cause)),))
