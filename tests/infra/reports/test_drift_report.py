"""A drift report: one page that needs nothing else, with the verdict on top whatever Evidently does."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.reports.drift import DriftReportFolder, head
from schemas.drift import DRIFT_CHECK, CheckedWindow, DriftCheck, DriftReport, Finding
from schemas.learning import Window

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REFERENCE = Window(start=NOW, end=NOW + timedelta(hours=1), rows=60)
FINDING = Finding(kind="outcomes", p_value=2e-9, effect=0.4, flagged=True, detail="bad answers <rose> to 57%")
CALM = Finding(kind="questions", p_value=0.42, effect=0.05, flagged=False, detail="5% are new")
CHECK = DriftCheck(
    check_id="c1",
    task="routing",
    checked_at=NOW,
    baseline=3,
    reference=REFERENCE,
    current=REFERENCE,
    findings=(FINDING, CALM),
    verdict="outcomes",
    remedy="retrain",
    reasons=("outcomes: bad answers rose", "retrain: 27 were corrected"),
    figures={"rated": 47.0, "flags.outcomes": 2.0},
)
WINDOWS = (CheckedWindow(window=REFERENCE, findings=(FINDING, CALM)), CheckedWindow(window=REFERENCE, findings=(CALM,)))
REPORT = DriftReport(
    check=CHECK,
    windows=WINDOWS,
    novel=[("Do <skates> rust?", 0.21)],
    alpha=0.01,
    flags=2,
    of=3,
    reference_rows=60,
    measured={
        "latency, ms": [float(number % 17) + (number >= 60) * 40 for number in range(100)],
        "answer, tokens": [None if number % 5 == 0 else float(number % 7) for number in range(100)],
        "prompt, tokens": [7.0] * 100,
        "best source, cosine": [None] * 100,
    },
    named={"answer": ["orders" if number % 3 else "returns" for number in range(100)], "rating": ["none"] * 100},
)


@dataclass(frozen=True)
class Written:
    """The files of a report, and why Evidently's part is missing."""

    html: Path
    json: Path
    problem: str | None


def write(folder: Path, report: DriftReport) -> Written:
    uri, problem = DriftReportFolder(folder).write(report)
    html = folder / report.check.task / f"{report.check.check_id}.html"
    assert uri == html.as_uri()
    return Written(html, html.with_suffix(".json"), problem)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("reports"), REPORT)


def test_the_top_says_what_was_found_and_what_would_help():
    top = head(REPORT)
    for words in ("Drift: outcomes · remedy: retrain", "47 rated", "2e-09 flagged", "0.4200", "1.50% at most"):
        assert words in top
    assert "flags.outcomes" not in top


def test_what_users_wrote_cannot_become_part_of_the_page():
    assert "<skates>" not in head(REPORT)
    assert "&lt;skates&gt;" in head(REPORT)
    assert "<rose>" not in head(REPORT)


HOSTILE = "</script><img src=x onerror=alert(1)>{{ 1 }}{% endraw %}"


def test_hostile_text_anywhere_in_the_top_stays_text():
    check = replace(CHECK, task=HOSTILE, check_id=HOSTILE, reasons=(HOSTILE,), figures={HOSTILE.replace(".", ""): 1.0})
    found = replace(FINDING, detail=HOSTILE)
    windows = (CheckedWindow(window=REFERENCE, findings=(found,)),)
    top = head(replace(REPORT, check=check, windows=windows, novel=[(HOSTILE, 0.1)]))
    assert "<img" not in top
    assert "</script" not in top
    assert top.count("&lt;img src=x onerror=alert(1)&gt;{{ 1 }}{% endraw %}") == 6


def test_a_column_value_cannot_end_evidentlys_script(tmp_path: Path):
    named = {"answer": [HOSTILE if number % 3 else "returns" for number in range(100)]}
    written = write(tmp_path, replace(REPORT, named=named))
    page = written.html.read_text(encoding="utf-8")
    assert written.problem is None
    assert "onerror=alert(1)" in page
    assert "<img src=x" not in page


def test_what_evidently_says_when_it_fails_stays_text(tmp_path: Path):
    named = {"answer": ["a", HOSTILE], HOSTILE: ["a", "b", "c"]}
    broken = replace(REPORT, reference_rows=1, measured={}, named=named)
    written = write(tmp_path, broken)
    assert written.problem is not None
    assert "<img src=x" not in written.html.read_text(encoding="utf-8")


def test_a_check_without_drift_and_one_that_was_not_made_look_different():
    calm = replace(CHECK, verdict=None, remedy="none", reasons=("no test tells them apart",))
    assert "No drift" in head(replace(REPORT, check=calm))
    assert "Not checked" in head(replace(REPORT, check=replace(calm, findings=()), windows=()))


def test_evidentlys_part_stands_below_ours(written: Written):
    page = written.html.read_text(encoding="utf-8")
    assert written.problem is None
    assert page.index("Drift: outcomes") < page.index("By Evidently") < page.index("drawDashboard")


def test_the_page_asks_nobody_for_anything(written: Written):
    page = written.html.read_text(encoding="utf-8")
    assert re.findall(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?([^\s\">]+)", page) == []
    assert [link for link in re.findall(r"<link[^>]*href=\"?([^\s\">]+)", page) if not link.startswith("data:")] == []


def test_evidently_marks_single_columns_at_a_shared_out_threshold(written: Written):
    found = json.loads(written.json.read_text(encoding="utf-8"))
    assert found["check"] == DRIFT_CHECK.dump_python(CHECK, mode="json")
    assert [len(each["findings"]) for each in found["windows"]] == [2, 1]
    columns = {
        each["config"]["column"]: each["config"]["threshold"]
        for each in found["evidently"]["metrics"]
        if each["config"]["type"].endswith("ValueDrift")
    }
    assert columns == {name: pytest.approx(0.01 / 3) for name in ("latency, ms", "answer, tokens", "answer")}


def test_when_evidently_crashes_the_verdict_is_given_all_the_same(tmp_path: Path):
    broken = replace(REPORT, measured={"latency, ms": [1.0, 2.0]}, named={"answer": ["a", "b", "c"]})
    written = write(tmp_path, broken)
    page = written.html.read_text(encoding="utf-8")
    assert written.problem is not None
    assert "All arrays must be of the same length" in written.problem
    assert "Drift: outcomes" in page
    assert "part of this report could not be made: ValueError" in page
    assert json.loads(written.json.read_text(encoding="utf-8"))["evidently"] is None
    assert sorted(path.name for path in written.html.parent.iterdir()) == ["c1.html", "c1.json"]
