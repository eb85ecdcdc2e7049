"""Deletes the results of old drift checks and their reports. Those of checks that found drift stay longer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from agents.monitor.ports import KeptChecks, ReportFiles
from schemas.drift import DriftCheck, StoredReport
from schemas.features import TaskWindow
from schemas.policies import RetentionPolicy

MOST = 200
"""Reports of one call."""
SEARCHED = 50
"""How many of a task's newest checks are searched for one that had a reference window."""


class Keeper:
    """Deletes checks and reports by age, a bounded number with each call."""

    def __init__(self, checks: KeptChecks, reports: ReportFiles, policy: RetentionPolicy) -> None:
        self._checks, self._reports, self._policy = checks, reports, policy

    def prune(self, now: datetime) -> int:
        """Deletes the rows of old checks; returns how many."""
        return self._checks.prune(now - timedelta(days=self._policy.check_days))

    def remove_reports(self, now: datetime) -> int:
        """Deletes the pages of old checks on this machine; returns how many."""
        written = self._reports.older(now - timedelta(days=self._policy.report_days))
        checks = self._checks.of([each.name for each in written])
        deleted = 0
        for report in expired_reports(written, checks, now, self._policy):
            if deleted == MOST:
                break
            if self._reports.remove(report):
                self._checks.forget_report(report.name)
                deleted += 1
        return deleted


def expired_reports(
    written: Iterable[StoredReport], checks: dict[str, DriftCheck], now: datetime, policy: RetentionPolicy
) -> list[StoredReport]:
    """Returns the reports that may go. A report whose check is not known is kept as long as one that found drift."""
    expired = []
    for report in written:
        check = checks.get(report.name)
        quiet = check is not None and check.verdict is None
        days = policy.report_days if quiet else policy.alarm_report_days
        if (check.checked_at if check is not None else report.written_at) < now - timedelta(days=days):
            expired.append(report)
    return expired


def reference_windows(tasks: Iterable[str], checks: KeptChecks) -> Sequence[TaskWindow]:
    """Returns each task's reference window, as its last checks have it: its answers must stay in the feature table."""
    found = []
    for task in tasks:
        with_rows = (each for each in checks.recent(task, SEARCHED) if each.reference.rows)
        check = next(with_rows, None)
        if check is not None:
            found.append(TaskWindow(task=task, start=check.reference.start, end=check.reference.end))
    return found
