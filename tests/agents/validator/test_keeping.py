"""A report on a validation stays as long as its adapter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from agents.validator.keeping import Keeper
from schemas.drift import StoredReport
from schemas.policies import RetentionPolicy

NOW = datetime(2026, 5, 1, tzinfo=UTC)


class Reports:
    def __init__(self, **days: float) -> None:
        self.written = [
            StoredReport(task="routing", name=name, written_at=NOW - timedelta(days=age), size_bytes=1)
            for name, age in days.items()
        ]

    def older(self, before: datetime) -> list[StoredReport]:
        return [each for each in self.written if each.written_at < before]

    def remove(self, report: StoredReport) -> bool:
        self.written.remove(report)
        return True


def test_only_old_reports_on_adapters_that_are_gone_are_deleted() -> None:
    reports = Reports(champion=500, gone=181, lately_gone=179)
    keeper = Keeper(reports, lambda: ["champion"], RetentionPolicy(alarm_report_days=180))
    assert keeper.remove_reports(NOW) == 1
    assert [each.name for each in reports.written] == ["champion", "lately_gone"]
