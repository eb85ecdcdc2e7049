"""Starts checks when they are due, keeps what they found, and tells drift: all inside the journal's transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from agents.delivery.outcome import Output, RunRequest
from agents.monitor.baseline import Followed, baseline_of, follow
from agents.monitor.ports import Answers, Checks, Runs
from agents.monitor.schedule import SchedulePolicy, Seen, is_due, is_silent
from schemas.delivery import Claim
from schemas.drift import Baseline, DriftCheck
from schemas.learning import DriftDetected, Window
from schemas.promotions import ReleaseEvent

AGENT = "monitor"
CHECK = "check"


class Checking:
    """At most one unfinished check a task; whatever was told is in the row of the check that told it."""

    def __init__(
        self,
        *,
        answers: Answers,
        checks: Checks,
        runs: Runs,
        policy: SchedulePolicy,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """``arguments``: what each check's child process is given besides its own."""
        self._answers = answers
        self._checks = checks
        self._runs = runs
        self._policy = policy
        self._arguments = dict(arguments or {})
        self._followed: dict[str, Followed] = {}

    def follow(self, event: ReleaseEvent) -> None:
        """Takes note of a release; outside transactions."""
        self._followed[event.task] = follow(self._followed.get(event.task), event)

    def look(self, task: str, now: datetime, *, requested: bool = False) -> Sequence[RunRequest]:
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

    def keep(self, check: DriftCheck) -> Sequence[Output]:
        """Inside a transaction: the check's row, and the drift that it tells, if it does."""
        last, baseline = self._last_and_baseline(check.task)
        if check.baseline < baseline.sequence:
            self._checks.add(replace(check, reasons=(*check.reasons, "not told: the champion has changed meanwhile")))
            return ()
        if last is not None:
            check = replace(check, told_at=last.told_at, told=last.told)
        if check.verdict is None or is_silent(last, check.remedy, check.checked_at, self._policy):
            self._checks.add(check)
            return ()
        self._checks.add(replace(check, told_at=check.checked_at, told=check.remedy))
        return (Output(event=_detected(check), time=check.checked_at),)


def failed_check(claim: Claim, error: str, at: datetime) -> DriftCheck:
    """The row of a check that could not be made. Its windows are empty and end now: it is tried again with new rows."""
    empty = Window(start=at, end=at, rows=0)
    return DriftCheck(
        check_id=claim.run_id,
        task=str(claim.arguments["task"]),
        checked_at=at,
        baseline=int(claim.arguments["baseline"]),
        reference=empty,
        current=empty,
        findings=(),
        reasons=(f"the check failed {claim.attempt} times, at last with: {error}",),
    )


def _detected(check: DriftCheck) -> DriftDetected:
    return DriftDetected(
        task=check.task,
        kind=str(check.verdict),
        remedy=check.remedy,
        evidence={
            "check_id": check.check_id,
            "baseline": check.baseline,
            "findings": [asdict(finding) for finding in check.findings],
            "figures": dict(check.figures),
            "reasons": list(check.reasons),
        },
        reference=check.reference,
        current=check.current,
        report_uri=check.report_uri,
    )
