"""Starts checks when they are due, records what they found, and publishes drift.

All of it happens inside the journal's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from agents.delivery.outcome import Output, RunRequest
from agents.delivery.ports import Runs
from agents.monitor import AGENT
from agents.monitor.ports import Answers, Checks
from agents.monitor.schedule import (
    AnswerCounts,
    FollowedRelease,
    baseline_of,
    follow,
    is_due,
    is_repeated,
)
from schemas.delivery import Claim
from schemas.drift import Baseline, DriftCheck
from schemas.learning import DriftDetected, Window
from schemas.policies import MonitorPolicy
from schemas.promotions import ReleaseEvent

CHECK = "check"


class CheckController:
    """Allows one unfinished check a task. The row of a check says whether the check's drift was published."""

    def __init__(
        self,
        *,
        answers: Answers,
        checks: Checks,
        runs: Runs,
        policy_of: Callable[[str], MonitorPolicy],
        settings_location: Mapping[str, object],
    ) -> None:
        """``policy_of`` gives the policy of a task.

        ``settings_location``: arguments by which a check's process finds the settings.
        """
        self._answers, self._checks, self._runs, self._policy_of = answers, checks, runs, policy_of
        self._settings_location = dict(settings_location)
        self._releases: dict[str, FollowedRelease] = {}

    def follow(self, event: ReleaseEvent) -> None:
        """Remembers a release. Needs no transaction."""
        self._releases[event.task] = follow(self._releases.get(event.task), event)

    def start_if_due(self, task: str, now: datetime) -> Sequence[RunRequest]:
        """Inside a transaction: requests a check if one is due and no check of the task is unfinished."""
        last, baseline = self._last_and_baseline(task)
        if not is_due(self._count(task, baseline, last), last, self._policy_of(task), now):
            return ()
        return self._start(task, baseline)

    def start(self, task: str) -> Sequence[RunRequest]:
        """Inside a transaction: requests a check whether one is due or not, unless a check of the task is
        unfinished."""
        _, baseline = self._last_and_baseline(task)
        return self._start(task, baseline)

    def record(self, check: DriftCheck) -> Sequence[Output]:
        """Inside a transaction: adds the check's row, and returns the drift to publish, if there is any."""
        last, baseline = self._last_and_baseline(check.task)
        if check.baseline < baseline.sequence:
            self._checks.add(replace(check, reasons=(*check.reasons, "not published: the champion has changed since")))
            return ()
        if last is not None:
            check = replace(check, told_at=last.told_at, told=last.told)
        policy = self._policy_of(check.task)
        if check.verdict is None or is_repeated(last, check.remedy, check.checked_at, policy):
            self._checks.add(check)
            return ()
        self._checks.add(replace(check, told_at=check.checked_at, told=check.remedy))
        return (Output(event=_detected(check), time=check.checked_at),)

    def _start(self, task: str, baseline: Baseline) -> Sequence[RunRequest]:
        if any(run.arguments.get("task") == task for run in self._runs.unfinished(AGENT)):
            return ()
        own = {
            "task": task,
            "baseline": baseline.sequence,
            "champion": baseline.champion,
            **({"renewed": True} if baseline.renewed else {}),
        }
        return (RunRequest(kind=CHECK, arguments={**self._settings_location, **own}),)

    def _last_and_baseline(self, task: str) -> tuple[DriftCheck | None, Baseline]:
        """Returns the baseline, and the newest check if it has the same baseline."""
        last = next(iter(self._checks.recent(task, 1)), None)
        release, others = self._releases.get(task), None
        if release is not None and release.since is None:
            others = self._answers.last_of_others(task, release.champion, release.sequence)
        baseline = baseline_of(release, others, last.baseline if last is not None else None)
        return last if last is not None and last.baseline == baseline.sequence else None, baseline

    def _count(self, task: str, baseline: Baseline, last: DriftCheck | None) -> AnswerCounts:
        """Stops counting where the decision is clear, so that the cost does not grow with the number of answers."""
        policy = self._policy_of(task)
        rows = self._answers.count(task, baseline, limit=policy.rows_needed)
        if last is None or rows < policy.rows_needed:
            return AnswerCounts(rows=rows)
        enough = int(last.figures.get("rated", 0)) + policy.every_rows
        return AnswerCounts(
            rows=rows,
            fresh=self._answers.count(task, baseline, since=last.current.end, limit=policy.every_rows),
            rated=self._answers.count(task, baseline, since=last.current.start, rated=True, limit=enough),
        )


def failed_check(claim: Claim, error: str, at: datetime) -> DriftCheck:
    """Returns the row of a check that could not be made.

    Its windows are empty and end now, so the next check is due after new answers.
    """
    empty = Window(start=at, end=at, rows=0)
    return DriftCheck(
        check_id=claim.run_id,
        task=str(claim.arguments["task"]),
        checked_at=at,
        baseline=int(claim.arguments["baseline"]),
        reference=empty,
        current=empty,
        findings=(),
        reasons=(f"the check could not be made: {error}",),
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
            **({"label": list(check.to_label)} if check.to_label else {}),
        },
        reference=check.reference,
        current=check.current,
        report_uri=check.report_uri,
    )
