"""Evidently runs our tests, and a report says what it found: on top, in its charts, which a shared file draws, and in
JSON."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from infra.memory.drift import MemoryDetector
from infra.reports.drift import DriftReportFolder, render
from infra.reports.evidently_charts import viewer
from infra.reports.evidently_detector import EvidentlyDetector
from schemas.drift import (
    DRIFT_CHECK,
    CheckedColumn,
    CheckedWindow,
    ColumnResult,
    ColumnTest,
    DescribedColumns,
    Detection,
    DriftCheck,
    DriftReport,
    Finding,
)
from schemas.learning import Window
from tests.fixtures import browser, services

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
DESCRIBED = DescribedColumns(
    reference_rows=60,
    measured={
        "latency, ms": [float(number % 17) + (number >= 60) * 40 for number in range(100)],
        "answer, tokens": [None if number % 5 == 0 else float(number % 7) for number in range(100)],
        "prompt, tokens": [7.0] * 100,
        "best source, cosine": [None] * 100,
    },
    named={"answer": ["orders" if number % 3 else "returns" for number in range(100)], "rating": ["none"] * 100},
)


def columns(*drifted: str) -> list[CheckedColumn]:
    """Makes columns of all kinds, of which these drifted."""
    values: dict[str, Sequence[float | None] | Sequence[str | None]] = {
        "questions": [0.9 - number % 7 / 20 for number in range(100)],
        "outcomes": [None if number % 3 else "bad" if number % 2 else "good" for number in range(100)],
        "failures": ["answered"] * 100,
        "declined": [None] * 60 + ["answered"] * 40,
    }
    return [
        CheckedColumn(kind=kind, values=shown, test=scoring(0.0001 if kind in drifted else 0.5), threshold=0.0025,
                      method="a test of ours")
        for kind, shown in values.items()
    ]  # fmt: skip


def scoring(score: float) -> ColumnTest:
    """A test that says the same of all rows."""
    return lambda before, now: score


@cache
def detected(*drifted: str) -> Detection:
    return EvidentlyDetector().detect(columns(*drifted), DESCRIBED)


REPORT = DriftReport(
    check=CHECK,
    detection=Detection(results={}),
    windows=WINDOWS,
    novel=[("Do <skates> rust?", 0.21)],
    to_label=[("a17", "Are <laces> included?")],
    alpha=0.01,
    flags=2,
    of=3,
)


def report(*drifted: str) -> DriftReport:
    """A report with what Evidently says of it."""
    check = CHECK if drifted else replace(CHECK, verdict=None, remedy="none", reasons=("no test tells them apart",))
    return replace(REPORT, check=check, detection=detected(*drifted))


@dataclass(frozen=True)
class Written:
    """The files of a report."""

    html: Path
    json: Path


def write(folder: Path, report: DriftReport) -> Written:
    uri = DriftReportFolder(folder).write(report)
    html = folder / report.check.task / f"{report.check.check_id}.html"
    assert uri == html.as_uri()
    return Written(html, html.with_suffix(".json"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("reports"), report("outcomes"))


def charts_of(page: str) -> dict[str, dict[str, object]]:
    """What a page has the viewer draw."""
    [packed] = re.findall(r'src="[^"#]+#([^"]+)"', page)
    drawn: dict[str, dict[str, object]] = json.loads(
        gzip.decompress(base64.b64decode(packed)), parse_constant=pytest.fail
    )
    return drawn


def texts(value: object) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def test_the_top_says_what_was_found_and_what_would_help():
    top = render(REPORT)
    for words in ("Drift: outcomes · remedy: retrain", "47 rated", "2e-09 flagged", "0.4200", "1.50% at most", "a17"):
        assert words in top
    assert "flags.outcomes" not in top


def test_a_check_without_drift_and_one_that_was_not_made_look_different():
    calm = replace(CHECK, verdict=None, remedy="none", reasons=("no test tells them apart",))
    assert "No drift" in render(replace(REPORT, check=calm))
    assert "Not checked" in render(replace(REPORT, check=replace(calm, findings=()), windows=()))


@pytest.mark.parametrize("drifted", [(), ("outcomes",), ("questions", "failures")], ids=str)
def test_page_json_and_heading_say_the_same(drifted: tuple[str, ...], tmp_path: Path):
    made = write(tmp_path, report(*drifted))
    page, whole = made.html.read_text(encoding="utf-8"), json.loads(made.json.read_text(encoding="utf-8"))
    assert ("<strong>No drift</strong>" in page, "<strong>Drift: outcomes" in page) == (not drifted, bool(drifted))
    assert (whole["check"]["verdict"] is not None) == bool(drifted)
    assert {kind for kind, result in whole["columns"].items() if result["drifted"]} == set(drifted)
    failed = [each["metric_config"]["params"].get("column") for each in whole["evidently"]["tests"]
              if each["status"] == "FAIL"]  # fmt: skip
    assert [each for each in failed if each is not None] == list(drifted)
    said = [text for text in texts(charts_of(page)["dashboard"]) if "detected" in text.lower()]
    [sentence] = [text for text in said if text.startswith("Dataset Drift")]
    assert sentence.startswith("Dataset Drift is detected." if drifted else "Dataset Drift is NOT detected.")
    assert said.count("Detected") == len(drifted)
    assert said.count("Not Detected") == 3 - len(drifted)  # nothing was declined in the reference: not to be tested
    assert len(said) == 5  # nothing is claimed of the columns that are only described


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    program = browser.find()
    if program is None:
        services.missing("there is no Chromium here to open pages with")
    with browser.running(program) as running:
        yield running


@pytest.mark.parametrize("drifted", [(), ("outcomes",)], ids=str)
def test_a_browser_shows_the_same_in_the_heading_and_in_the_charts(
    drifted: tuple[str, ...], chromium: browser.Browser, tmp_path: Path
):
    made = write(tmp_path, report(*drifted))
    chromium.open(made.html.as_uri())
    shown = "document.body.innerText"
    chromium.until(lambda: "Dataset Drift is" in (chromium.run_in_frame(shown) or ""))
    heading = chromium.run("document.querySelector('.el-verdict strong').innerText")
    frame = chromium.run_in_frame(shown)
    if drifted:
        assert heading == "Drift: outcomes · remedy: retrain"
        assert "Dataset Drift is detected." in frame
    else:
        assert heading == "No drift"
        assert "Dataset Drift is NOT detected." in frame
    rows = "[...document.querySelectorAll('tbody tr')].map((each) => each.innerText)"
    table = [row for row in chromium.run_in_frame(rows) if "Detected" in row]
    assert {row.split()[0] for row in table if "Not Detected" not in row} == set(drifted)
    assert len(table) == 3


def test_evidently_runs_our_tests_and_its_result_is_what_they_say():
    asked: list[tuple[str, list[int], list[int]]] = []

    def test(before: Sequence[int], now: Sequence[int]) -> float:
        asked.append(("outcomes", list(before), list(now)))
        return 0.002

    outcomes = replace(columns()[1], test=test)
    detection = EvidentlyDetector().detect([columns()[0], outcomes], DESCRIBED)
    assert {tuple(map(tuple, each[1:])) for each in asked} == {(tuple(range(0, 60, 3)), tuple(range(60, 100, 3)))}
    assert detection.results == {
        "questions": ColumnResult(score=0.5, threshold=0.0025, drifted=False),
        "outcomes": ColumnResult(score=0.002, threshold=0.0025, drifted=True),
    }
    assert detection.results == MemoryDetector().detect([columns()[0], outcomes], DESCRIBED).results
    assert detection.found is not None
    [method] = [each["config"]["method"] for each in detection.found["metrics"]
                if each["config"].get("column") == "outcomes"]  # fmt: skip
    assert method == "everlearn_outcomes"


def test_a_score_at_the_threshold_is_drift_for_evidently_as_for_its_twin():
    at = [replace(each, threshold=0.5) for each in columns()]
    results = EvidentlyDetector().detect(at, DESCRIBED).results
    assert results == MemoryDetector().detect(at, DESCRIBED).results
    assert all(each.drifted for each in results.values())


def test_no_test_of_an_earlier_check_stays_with_evidently():
    from evidently.legacy.calculations.stattests import registry

    detected()
    before = len(registry._registered_stat_test_funcs), len(registry._impls)
    EvidentlyDetector().detect(columns("outcomes"), DESCRIBED)
    assert (len(registry._registered_stat_test_funcs), len(registry._impls)) == before


def test_evidentlys_part_stands_below_ours_in_a_frame(written: Written):
    page = written.html.read_text(encoding="utf-8")
    assert page.index("Drift: outcomes") < page.index("Evidently's report") < page.index('<iframe class="el-charts"')
    assert 'sandbox="allow-scripts"' in page
    drawn = charts_of(page)
    assert "latency, ms" in json.dumps(drawn["dashboard"])
    assert drawn["graphs"]


def test_a_page_is_small_and_asks_only_for_the_file_that_all_pages_share(tmp_path: Path):
    first = write(tmp_path, report("outcomes"))
    second = write(tmp_path, replace(report("outcomes"), check=replace(CHECK, task="support", check_id="c2")))
    [shared] = [each for each in tmp_path.iterdir() if each.is_file()]
    assert re.fullmatch(r"evidently-0\.7\.23-[0-9a-f]{16}\.html", shared.name)
    assert shared.read_bytes() == viewer().content
    for each in (first, second):
        page = each.html.read_text(encoding="utf-8")
        assert len(page) < 50_000
        assert re.findall(r"""(?:src|href)=["']?([^\s"'#>]+)""", page) == [f"../{shared.name}"]
        assert (each.html.parent / ".." / shared.name).resolve() == shared


def test_the_shared_file_is_written_once(tmp_path: Path):
    write(tmp_path, report("outcomes"))
    shared = tmp_path / viewer().name
    before = shared.stat()
    write(tmp_path, report("outcomes"))
    assert (shared.stat().st_ino, shared.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_numbers_that_json_does_not_know_are_left_out(tmp_path: Path):
    measured = {**DESCRIBED.measured, "score": [float("nan"), float("inf"), *map(float, range(98))]}
    detection = EvidentlyDetector().detect(columns(), replace(DESCRIBED, measured=measured))
    made = write(tmp_path, replace(REPORT, detection=detection))
    assert "score" in json.dumps(charts_of(made.html.read_text(encoding="utf-8")))
    json.loads(made.json.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_a_shared_file_of_an_earlier_version_stays_as_long_as_a_page_refers_to_it(tmp_path: Path):
    names = [f"evidently-0.7.{version}-0123456789abcdef.html" for version in (20, 21)]
    for name in names:
        (tmp_path / name).write_text("scripts")
    (tmp_path / "support").mkdir()
    (tmp_path / "support" / "c0.html").write_text(f'<iframe src="../{names[1]}#H4sI"></iframe>')
    write(tmp_path, report("outcomes"))
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_file()) == [names[1], viewer().name]


def test_the_json_has_the_check_its_windows_and_evidentlys_result(written: Written):
    found = json.loads(written.json.read_text(encoding="utf-8"))
    assert found["check"] == DRIFT_CHECK.dump_python(CHECK, mode="json")
    assert [len(each["findings"]) for each in found["windows"]] == [2, 1]
    assert found["columns"]["outcomes"] == {"score": 0.0001, "threshold": 0.0025, "drifted": True}
    assert found["columns"]["declined"] == {"score": 0.5, "threshold": 0.0025, "drifted": False}
    thresholds = {each["config"]["column"]: each["config"]["threshold"] for each in found["evidently"]["metrics"]
                  if each["config"]["type"].endswith("ValueDrift")}  # fmt: skip
    assert thresholds == dict.fromkeys(("questions", "outcomes", "failures"), 0.0025)


def test_when_the_description_fails_the_tests_and_their_charts_are_there_all_the_same(tmp_path: Path):
    broken = DescribedColumns(
        reference_rows=60, measured={"latency, ms": [1.0, 2.0]}, named={"answer": ["a", "b", "c"]}
    )
    detection = EvidentlyDetector().detect(columns("outcomes"), broken)
    made = write(tmp_path, replace(REPORT, detection=detection))
    page = made.html.read_text(encoding="utf-8")
    assert detection.drifted == ("outcomes",)
    assert "description failed: ValueError: All arrays must be of the same length" in page
    assert "Dataset Drift is detected" in json.dumps(charts_of(page))


def test_when_evidently_crashes_the_verdict_is_given_all_the_same(tmp_path: Path):
    twice = [*columns("outcomes"), replace(columns()[0], values=[1.0, 2.0] * 40)]
    detection = EvidentlyDetector().detect(twice, replace(DESCRIBED, measured={}, named={}))
    made = write(tmp_path, replace(REPORT, detection=detection))
    page = made.html.read_text(encoding="utf-8")
    assert detection.drifted == ("outcomes",)
    assert "Drift: outcomes" in page
    assert "the tests ran without Evidently, which failed: ValueError" in page
    assert json.loads(made.json.read_text(encoding="utf-8"))["evidently"] is None
    assert sorted(path.name for path in made.html.parent.iterdir()) == ["c1.html", "c1.json"]
