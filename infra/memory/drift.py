"""The in-memory twins of ``infra.sql.drift``, of Evidently as a detector, and of the folder of drift reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from infra.memory.database import MemoryDatabase
from schemas.drift import (
    DRIFT_CHECK,
    RATED,
    Baseline,
    CheckedColumn,
    DescribedColumns,
    Detection,
    DriftCheck,
    DriftReport,
)
from schemas.features import Interaction


class MemoryDriftChecks:
    """The drift checks, one row each."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, check: DriftCheck) -> None:
        """Inside a transaction: adds a check; a second call with the same id changes nothing."""
        kept = DRIFT_CHECK.validate_python(DRIFT_CHECK.dump_python(check, mode="json"))
        with self._database.table("drift_checks") as checks:
            checks.setdefault(check.check_id, kept)

    def recent(self, task: str | None, limit: int) -> list[DriftCheck]:
        """Returns the checks of a task, or of all tasks, newest first."""
        with self._database.table("drift_checks") as checks:
            found = [check for check in checks.values() if task in (None, check.task)]
        found.sort(key=lambda check: check.check_id)
        return sorted(found, key=lambda check: check.checked_at, reverse=True)[:limit]

    def of(self, check_ids: Sequence[str]) -> dict[str, DriftCheck]:
        """Returns the checks that exist, by id."""
        with self._database.table("drift_checks") as checks:
            return {each: checks[each] for each in check_ids if each in checks}

    def forget_report(self, check_id: str) -> None:
        """Notes that the report of a check was deleted."""
        with self._database.table("drift_checks") as checks:
            if check_id in checks:
                checks[check_id] = replace(checks[check_id], report_uri=None)

    def prune(self, before: datetime) -> int:
        """Deletes checks that were made before then, except each task's newest; returns how many."""
        with self._database.table("drift_checks") as checks:
            newest: dict[str, datetime] = {}
            for check in checks.values():
                newest[check.task] = max(check.checked_at, newest.get(check.task, check.checked_at))
            old = [
                check.check_id
                for check in checks.values()
                if check.checked_at < before and check.checked_at < newest[check.task]
            ]
            for check_id in old:
                del checks[check_id]
        return len(old)


class MemoryAnswers:
    """Selects the answers of a baseline: the champion's since then, and those it gave while it was the challenger.

    The order is that of the releases, and of the times within a release.
    """

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def count(
        self, task: str, baseline: Baseline, *, since: datetime | None = None, rated: bool = False, limit: int
    ) -> int:
        """Counts answers, up to ``limit``: optionally only those after ``since``, or only those that users rated."""
        rows = self._belonging(task, baseline)
        if since is not None:
            rows = [row for row in rows if row.answered_at is not None and row.answered_at > since]
        return min(limit, sum(not rated or row.outcome in RATED for row in rows))

    def rows(self, task: str, baseline: Baseline, *, newest: bool = False, limit: int) -> list[Interaction]:
        """Returns the first answers, or the newest ones, oldest first."""
        rows = self._belonging(task, baseline)
        return rows[max(0, len(rows) - limit) :] if newest else rows[:limit]

    def last_of_others(self, task: str, champion: str | None, sequence: int) -> int | None:
        """Returns the highest release sequence, up to ``sequence``, at which another champion answered, or None."""
        with self._database.table("interactions") as table:
            others = [
                row.release_sequence
                for row in table.values()
                if row.task == task and row.arm == "champion" and row.outcome != "failed" and row.adapter_id != champion
            ]
        return max((each for each in others if each is not None and each <= sequence), default=None)

    def _belonging(self, task: str, baseline: Baseline) -> list[Interaction]:
        with self._database.table("interactions") as table:
            rows = [row for row in table.values() if row.task == task and _belongs(row, baseline)]
        return sorted(rows, key=lambda row: (row.release_sequence, row.answered_at, row.answer_id))


class MemoryDetector:
    """Runs each column's test by itself. ``problem``: what the charts fail with, if they are to fail."""

    def __init__(self, problem: str | None = None) -> None:
        self.described: list[DescribedColumns] = []
        self.problem = problem

    def detect(self, columns: Sequence[CheckedColumn], described: DescribedColumns) -> Detection:
        self.described.append(described)
        results = {column.kind: column.result(described.reference_rows) for column in columns}
        return Detection(results=results, problem=self.problem)


class MemoryDriftReports:
    """Keeps reports as they are given."""

    def __init__(self) -> None:
        self.written: list[DriftReport] = []

    def write(self, report: DriftReport) -> str:
        """Returns the page's URI."""
        self.written.append(report)
        return f"memory:{report.check.task}/{report.check.check_id}"


def _belongs(row: Interaction, baseline: Baseline) -> bool:
    if row.answered_at is None or row.finish_reason == "retrieve_only":
        return False
    if row.release_sequence is None:
        return False
    if row.arm == "challenger":
        tried = baseline.champion is not None and row.adapter_id == baseline.champion and not baseline.renewed
        return tried and row.release_sequence < baseline.sequence
    return row.arm == "champion" and row.release_sequence >= baseline.sequence
