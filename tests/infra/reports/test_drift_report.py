"""A drift report: the verdict on top whatever Evidently does, and a frame with its charts, drawn by a shared file."""

from __future__ import annotations

import base64
import gzip
import json
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.reports.drift import DriftReportFolder, render
from infra.reports.evidently_charts import viewer
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


def charts_of(page: str) -> dict[str, dict[str, object]]:
    """What a page has the viewer draw."""
    [packed] = re.findall(r'src="[^"#]+#([^"]+)"', page)
    drawn: dict[str, dict[str, object]] = json.loads(
        gzip.decompress(base64.b64decode(packed)), parse_constant=pytest.fail
    )
    return drawn


def test_the_top_says_what_was_found_and_what_would_help():
    top = render(REPORT, problem="none")
    for words in ("Drift: outcomes · remedy: retrain", "47 rated", "2e-09 flagged", "0.4200", "1.50% at most"):
        assert words in top
    assert "flags.outcomes" not in top


def test_a_check_without_drift_and_one_that_was_not_made_look_different():
    calm = replace(CHECK, verdict=None, remedy="none", reasons=("no test tells them apart",))
    assert "No drift" in render(replace(REPORT, check=calm), problem="none")
    assert "Not checked" in render(replace(REPORT, check=replace(calm, findings=()), windows=()), problem="none")


def test_evidentlys_part_stands_below_ours_in_a_frame(written: Written):
    page = written.html.read_text(encoding="utf-8")
    assert written.problem is None
    assert page.index("Drift: outcomes") < page.index("By Evidently") < page.index('<iframe class="el-charts"')
    assert 'sandbox="allow-scripts"' in page
    drawn = charts_of(page)
    assert "latency, ms" in json.dumps(drawn["dashboard"])
    assert drawn["graphs"]


def test_a_page_is_small_and_asks_only_for_the_file_that_all_pages_share(tmp_path: Path):
    first = write(tmp_path, REPORT)
    second = write(tmp_path, replace(REPORT, check=replace(CHECK, task="support", check_id="c2")))
    [shared] = [each for each in tmp_path.iterdir() if each.is_file()]
    assert re.fullmatch(r"evidently-0\.7\.23-[0-9a-f]{16}\.html", shared.name)
    assert shared.read_bytes() == viewer().content
    for each in (first, second):
        page = each.html.read_text(encoding="utf-8")
        assert len(page) < 50_000
        assert re.findall(r"""(?:src|href)=["']?([^\s"'#>]+)""", page) == [f"../{shared.name}"]
        assert (each.html.parent / ".." / shared.name).resolve() == shared


def test_the_shared_file_is_written_once(tmp_path: Path):
    write(tmp_path, REPORT)
    shared = tmp_path / viewer().name
    before = shared.stat()
    write(tmp_path, REPORT)
    assert (shared.stat().st_ino, shared.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_numbers_that_json_does_not_know_are_left_out(tmp_path: Path):
    measured = {**REPORT.measured, "score": [float("nan"), float("inf"), *map(float, range(98))]}
    written = write(tmp_path, replace(REPORT, measured=measured))
    assert "score" in json.dumps(charts_of(written.html.read_text(encoding="utf-8")))
    json.loads(written.json.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_a_shared_file_of_an_earlier_version_stays_as_long_as_a_page_refers_to_it(tmp_path: Path):
    names = [f"evidently-0.7.{version}-0123456789abcdef.html" for version in (20, 21)]
    for name in names:
        (tmp_path / name).write_text("scripts")
    (tmp_path / "support").mkdir()
    (tmp_path / "support" / "c0.html").write_text(f'<iframe src="../{names[1]}#H4sI"></iframe>')
    write(tmp_path, REPORT)
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == [names[1], viewer().name]


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
