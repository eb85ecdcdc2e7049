"""Deletes old reports on adapters that are gone."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta

from agents.validator.ports import ReportFiles
from schemas.policies import RetentionPolicy

MOST = 200
"""Reports of one call."""


class Keeper:
    """Deletes reports by age, a bounded number with each call."""

    def __init__(self, reports: ReportFiles, installed: Callable[[], Collection[str]], policy: RetentionPolicy) -> None:
        """``installed`` returns the ids of the adapters whose files are kept."""
        self._reports, self._installed, self._policy = reports, installed, policy

    def remove_reports(self, now: datetime) -> int:
        """Deletes the reports on this machine whose adapters are gone; returns how many."""
        old = self._reports.older(now - timedelta(days=self._policy.alarm_report_days))
        installed = set(self._installed()) if old else ()
        expired = [each for each in old if each.name not in installed]
        return sum(self._reports.remove(each) for each in expired[:MOST])
