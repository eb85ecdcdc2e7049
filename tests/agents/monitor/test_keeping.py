"""Which drift checks and reports are deleted, and which must stay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from agents.monitor.keeping import Keeper, reference_windows
from infra.memory.database import MemoryDatabase
from infra.memory.drift import MemoryDriftChecks
from schemas.drift import DriftCheck, StoredReport
from schemas.features import TaskWindow
from schemas.learning import Window
from schemas.policies import RetentionPolicy

NOW = datetime(2026, 5, 1, tzinfo=UTC)
POLICY = RetentionPolicy(report_days=14, alarm_report_days=90, check_days=365)


class Reports:
    """Reports on disk; those in ``stuck`` cannot be deleted."""

    def __init__(self) -> None:
        self.written: list[StoredReport] = []
        self.stuck: set[str] = set()

    def older(self, before: datetime) -> list[StoredReport]:
        return [each for each in self.written if each.written_at < before]

    def remove(self, report: StoredReport) -> bool:
        if report.name in self.stuck:
            return False
        self.written.remove(report)
        return True


class Room:
    def __init__(self) -> None:
        self.checks, self.reports = MemoryDriftChecks(MemoryDatabase()), Reports()
        self.keeper = Keeper(self.checks, self.reports, POLICY)

    def check(
        self, name: str, *, days: float, verdict: str | None = None, task: str = "routing", rows: int = 400
    ) -> None:
        at = NOW - timedelta(days=days)
        window = Window(start=at - timedelta(hours=2), end=at - timedelta(hours=1), rows=rows)
        self.checks.add(
            DriftCheck(
                check_id=name, task=task, checked_at=at, baseline=1, reference=window, current=window, findings=(),
                verdict=verdict, report_uri=f"file:///{name}.html",
            )
        )  # fmt: skip
        self.report(name, days=days, task=task)

    def report(self, name: str, *, days: float, task: str = "routing") -> None:
        at = NOW - timedelta(days=days)
        self.reports.written.append(StoredReport(task=task, name=name, written_at=at, size_bytes=1))

    def left(self) -> set[str]:
        return {each.name for each in self.reports.written}

    def named(self) -> set[str]:
        return {each.check_id for each in self.checks.recent(None, 100) if each.report_uri is not None}


def test_a_report_that_found_drift_stays_when_quiet_ones_go() -> None:
    room = Room()
    for days in (1, 15, 91):
        room.check(f"quiet {days}", days=days)
        room.check(f"drift {days}", days=days, verdict="outcomes")
    assert room.keeper.remove_reports(NOW) == 3
    assert room.left() == {"quiet 1", "drift 1", "drift 15"} == room.named()
    assert len(room.checks.recent(None, 100)) == 6  # what they found is still listed


def test_a_report_without_a_check_stays_as_long_as_one_that_found_drift() -> None:
    room = Room()
    for days in (15, 91):
        room.report(f"unknown {days}", days=days)
    assert room.keeper.remove_reports(NOW) == 1
    assert room.left() == {"unknown 15"}


def test_a_report_that_cannot_be_deleted_is_still_named_and_the_others_go() -> None:
    room = Room()
    for name in "abc":
        room.check(name, days=20)
    room.reports.stuck = {"a"}
    assert room.keeper.remove_reports(NOW) == 2
    assert room.left() == {"a"} == room.named()


def test_old_results_go_but_the_newest_of_each_task_says_what_is_normal() -> None:
    room = Room()
    for name, days in (("old", 400), ("older", 500)):
        room.check(name, days=days)
    room.check("support's only one", days=900, task="support")
    assert room.keeper.prune(NOW) == 1
    assert {each.check_id for each in room.checks.recent(None, 9)} == {"old", "support's only one"}


def test_the_reference_window_is_that_of_the_newest_check_that_had_one() -> None:
    room = Room()
    room.check("first", days=9)
    room.check("newest", days=3)
    room.check("failed", days=1, rows=0)
    (window,) = reference_windows(["routing", "never checked"], room.checks)
    at = NOW - timedelta(days=3)
    assert window == TaskWindow(task="routing", start=at - timedelta(hours=2), end=at - timedelta(hours=1))
    assert replace(window, task="x") != window
