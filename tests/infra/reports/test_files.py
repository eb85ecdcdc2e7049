"""The folder of reports: pairs of pages and JSON, and nothing that the pages share is deleted."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from structlog.testing import capture_logs

from infra.reports.files import ReportFolder

NOW = datetime(2026, 5, 1, tzinfo=UTC)
CHECK, ADAPTER = str(uuid.UUID(int=7)), "0123456789abcdef" * 2


def write(folder: Path, name: str, *, days: float = 0) -> Path:
    path = folder / "routing" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("page")
    moment = (NOW - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))
    return path


def test_a_page_and_its_json_are_one_report_which_is_removed_whole(tmp_path: Path) -> None:
    for name in (CHECK, ADAPTER):
        for suffix in ("html", "json"):
            write(tmp_path, f"{name}.{suffix}", days=3)
    reports = ReportFolder(tmp_path)
    assert {(each.name, each.size_bytes) for each in reports.all()} == {(CHECK, 8), (ADAPTER, 8)}
    assert reports.older(NOW - timedelta(days=4)) == []
    for each in reports.older(NOW - timedelta(days=2)):
        assert reports.remove(each)
        assert reports.remove(each)
    assert list((tmp_path / "routing").iterdir()) == []


def test_other_files_are_neither_listed_nor_removed(tmp_path: Path) -> None:
    for name in ("evidently-0123456789abcdef.js", f"{CHECK}.evidently.part", "notes.html", f"{CHECK}.html.old"):
        write(tmp_path, name, days=999)
    assert ReportFolder(tmp_path).all() == []
    assert ReportFolder(tmp_path / "none").all() == []


def test_a_report_that_cannot_be_removed_is_logged(tmp_path: Path) -> None:
    write(tmp_path, f"{CHECK}.html")
    (report,) = ReportFolder(tmp_path).all()
    (tmp_path / "routing" / f"{CHECK}.html").unlink()
    (tmp_path / "routing" / f"{CHECK}.html").mkdir()
    with capture_logs() as logs:
        assert not ReportFolder(tmp_path).remove(report)
    assert [(line["event"], line["report"]) for line in logs] == [("not deleted", CHECK)]
