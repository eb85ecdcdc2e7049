"""The monitor's handlers: answers, ratings and requests start checks; a check's result may be told as drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from agents.errors import InvalidEvent
from agents.monitor.baseline import Baseline, Followed, baseline_of, follow
from agents.monitor.ports import Answers, Checks, Runs
from agents.monitor.results import detected, failed_check
from agents.monitor.schedule import SchedulePolicy, Seen, is_due, is_silent
from agents.outcome import NOTHING, Outcome, Output, RunRequest
from schemas.delivery import Claim
from schemas.drift import DRIFT_CHECK, DriftCheck
from schemas.envelope import Received
from schemas.event import Event
from schemas.interactions import InteractionRecorded
from schemas.learning import DriftCheckRequested
from schemas.release import ReleaseEvent
from schemas.tasks import Task

AGENT = "monitor"
CHECK = "check"


class Monitor:
    """Holds the latest answers of each task against its first ones since a promotion."""

    def __init__(
        self,
        *,
        tasks: Mapping[str, Task],
        answers: Answers,
        checks: Checks,
        runs: Runs,
        policy: SchedulePolicy,
        now: Callable[[], datetime],
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """``arguments``: what every check is given besides its own."""
        self._tasks = tasks
        self._answers = answers
        self._checks = checks
        self._runs = runs
        self._policy = policy
        self._now = now
        self._arguments = dict(arguments or {})
        self._followed: dict[str, Followed] = {}

    async def follow(self, received: Received[Event]) -> None:
        """Keeps what promotions.v1 says of each task."""
        event = received.event
        if isinstance(event, ReleaseEvent):
            self._followed[event.task] = follow(self._followed.get(event.task), event)

    async def handle(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """One look per task and batch, in the effect of the task's last event; requests are looked at each."""
        last = {each.event.task: each for each in batch if isinstance(each.event, InteractionRecorded)}
        return [self._outcome(each, is_last=last.get(getattr(each.event, "task", None)) is each) for each in batch]

    async def tick(self, scheduled: datetime) -> Outcome:
        """What is due without traffic: late ratings, checks that had to wait, drift that is to be told again."""
        return Outcome(effect=lambda: [run for task in self._tasks for run in self._look(task, scheduled)])

    def done(self, claim: Claim, result: dict[str, Any]) -> Outcome:
        return Outcome(effect=lambda: self._keep(DRIFT_CHECK.validate_python(result["check"])))

    def failed(self, claim: Claim, error: str) -> Outcome:
        return Outcome(effect=lambda: self._keep(failed_check(claim, error, self._now())))

    def _outcome(self, received: Received[Event], *, is_last: bool) -> Outcome:
        event = received.event
        if isinstance(event, DriftCheckRequested):
            if event.task not in self._tasks:
                raise InvalidEvent(f"there is no task {event.task}: add it to everlearn.toml, then retry this letter")
            return Outcome(effect=lambda: self._look(event.task, self._now(), requested=True))
        if isinstance(event, InteractionRecorded) and is_last and event.task in self._tasks:
            task = event.task
            return Outcome(effect=lambda: self._look(task, self._now()))
        return NOTHING

    def _look(self, task: str, now: datetime, *, requested: bool = False) -> Sequence[RunRequest]:
        """Inside a transaction: a check if one is due and none of the task is under way."""
        last, baseline = self._last_and_baseline(task)
        if not requested and not is_due(self._seen(task, baseline, last), last, self._policy, now):
            return ()
        if any(run.arguments.get("task") == task for run in self._runs.unfinished(AGENT)):
            return ()
        wanted = {"task": task, "baseline": baseline.sequence, "champion": baseline.champion}
        return (RunRequest(kind=CHECK, arguments={**self._arguments, **wanted}),)

    def _last_and_baseline(self, task: str) -> tuple[DriftCheck | None, Baseline]:
        """The baseline, and the newest check if it is of that one."""
        last = next(iter(self._checks.recent(task, 1)), None)
        followed, others = self._followed.get(task), None
        if followed is not None and followed.since is None:
            others = self._answers.last_of_others(task, followed.champion, followed.sequence)
        baseline = baseline_of(followed, others, last.baseline if last is not None else None)
        return last if last is not None and last.baseline == baseline.sequence else None, baseline

    def _seen(self, task: str, baseline: Baseline, last: DriftCheck | None) -> Seen:
        """Bounded counts: a look costs the same however many answers there are."""
        rows = self._answers.count(task, baseline, limit=self._policy.rows_needed)
        if last is None or rows < self._policy.rows_needed:
            return Seen(rows=rows)
        enough = int(last.figures.get("rated", 0)) + self._policy.every_rows
        return Seen(
            rows=rows,
            fresh=self._answers.count(task, baseline, since=last.current.end, limit=self._policy.every_rows),
            rated=self._answers.count(task, baseline, since=last.current.start, rated=True, limit=enough),
        )

    def _keep(self, check: DriftCheck) -> Sequence[Output]:
        """Inside a transaction: the check's row, and the drift that it tells, if it does."""
        last, baseline = self._last_and_baseline(check.task)
        if last is not None and check.baseline == baseline.sequence:
            check = replace(check, told_at=last.told_at, told=last.told)
        if check.baseline != baseline.sequence:
            self._checks.add(replace(check, reasons=(*check.reasons, "not told: the champion changed meanwhile")))
            return ()
        if check.verdict is None or is_silent(last, check.remedy, check.checked_at, self._policy):
            self._checks.add(check)
            return ()
        self._checks.add(replace(check, told_at=check.checked_at, told=check.remedy))
        return (Output(event=detected(check), time=check.checked_at),)
