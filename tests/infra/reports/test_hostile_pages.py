"""Whatever users, models and files say, a page has the elements of a harmless page, and runs nothing of it."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.reports.drift import DriftReportFolder, render
from infra.reports.evidently_charts import viewer
from infra.reports.evidently_detector import EvidentlyDetector
from infra.reports.validation import render as render_validation
from infra.reports.validation import write_report
from schemas.drift import CheckedColumn, DescribedColumns, Detection, DriftReport
from tests.fixtures import browser, services
from tests.infra.reports import test_drift_report, test_validation_report
from tests.infra.reports.hostile import ATTACK, HOSTILE, Words, addresses, elements

SEEDS = range(40)
"""Each stands for another choice of hostile texts."""
ACTIVE = {"script", "iframe", "object", "embed", "base", "form", "input", "img", "svg", "link", "a"}

REORDERING = {"\x00", "\x08", "\x1b", "\u202e", "\ud800"}


def drift_report(words: Words) -> DriftReport:
    """A report with other texts; charts of columns whose names and values are such texts."""
    report: DriftReport = words.instead(test_drift_report.REPORT)
    return report


def detected(words: Words) -> Detection:
    """What Evidently makes of columns whose names and values are such texts."""
    values = [words() for _ in range(6)]
    drawn = random.Random(7)
    tested = CheckedColumn(
        kind="answers",
        values=[drawn.choice(values) for _ in range(100)],
        test=lambda before, now: 0.5,
        threshold=0.01,
        method="a test of ours",
    )
    described = DescribedColumns(
        reference_rows=60,
        measured={words(): [drawn.random() for _ in range(100)]},
        named={words(): [drawn.choice(values) for _ in range(100)]},
    )
    return EvidentlyDetector().detect([tested], described)


def drift_page(words: Words, *, charts: str | None) -> str:
    report = drift_report(words)
    detection = replace(report.detection, charts=charts, found={}, problem=words())
    return render(replace(report, detection=detection), "evidently-1.html")


def validation_report(words: Words) -> dict[str, Any]:
    at = test_validation_report.REPORT["at"]
    return {**words.instead(test_validation_report.REPORT, names=False), "at": at}


@pytest.mark.parametrize("charts", ["H4sIAA", None], ids=["charts", "no charts"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_drift_page_has_the_elements_of_a_harmless_one(seed: int, charts: str | None):
    page, harmless = drift_page(Words(seed), charts=charts), drift_page(Words(), charts=charts)
    assert elements(page) == elements(harmless)
    assert addresses(page) == addresses(harmless)
    assert {name for name, _ in elements(page)} & ACTIVE == ({"iframe"} if charts else set())
    assert not set(page) & REORDERING


@pytest.mark.parametrize("seed", SEEDS)
def test_a_validation_page_has_the_elements_of_a_harmless_one(seed: int):
    page, harmless = (render_validation(validation_report(words)) for words in (Words(seed), Words()))
    assert elements(page) == elements(harmless)
    assert addresses(page) == addresses(harmless)
    assert not {name for name, _ in elements(page)} & ACTIVE
    assert not set(page) & REORDERING


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_each_text_alone_would_be_noticed_if_it_were_not_escaped(text: str):
    harmless = '<!DOCTYPE html><html><head><title>t</title></head><body><p title="{0}">{0}</p></body></html>'
    spoiled = elements(harmless.format(text)) != elements(harmless.format("word"))
    assert spoiled == bool(re.search(r"<[a-z!/]|\"", text))


def test_pages_forbid_scripts_and_loading_and_the_viewer_runs_only_its_own():
    drift, validation = drift_page(Words(), charts="H4sIAA"), render_validation(validation_report(Words()))
    shared = viewer().content.decode()
    policies = [re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', each) for each in
                (drift, validation, shared)]  # fmt: skip
    for [policy] in policies:
        rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))
        assert {name: rules[name] for name in ("default-src", "base-uri", "form-action")} == dict.fromkeys(
            ("default-src", "base-uri", "form-action"), "'none'"
        )
        assert "script-src" not in rules or re.fullmatch(r"('sha256-[\w+/]+='\s?){3}", rules["script-src"])
        assert "connect-src" not in rules
    assert "script-src" not in policies[0][0] + policies[1][0]


@pytest.fixture(scope="module", params=[1, 2])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report with hostile texts in all places: its page, and the data of its charts."""
    folder = tmp_path_factory.mktemp("reports")
    words = Words(request.param)
    report, detection = drift_report(words), detected(words)
    assert detection.problem is None
    report = replace(report, check=replace(report.check, task="routing"), detection=detection)
    uri = DriftReportFolder(folder).write(report)
    [page] = (folder / "routing").glob("*.html")
    assert re.fullmatch(r"[0-9a-f]{32}\.html", page.name)
    assert uri == page.as_uri()
    [packed] = re.findall(r'src="[^"#]+#([^"]+)"', page.read_text(encoding="utf-8"))
    return page, gzip.decompress(base64.b64decode(packed)).decode()


def test_what_evidently_gets_has_no_markup_in_it(written: tuple[Path, str]):
    _, drawn = written
    known = [text for text in texts(json.loads(drawn)) if re.search(r"[<>&\u2028\u2029]", text)]
    assert [text for text in known if "hit" in text or "escaped" in text] == []
    assert "console.log" in drawn


def test_the_file_that_all_pages_share_holds_nothing_of_a_report(written: tuple[Path, str]):
    page, _ = written
    [shared] = [each for each in page.parent.parent.iterdir() if each.is_file()]
    assert shared.read_bytes() == viewer().content


@pytest.mark.parametrize("identifier", ["../../../escaped", "/escaped", "a" * 500, "..", "a/b", "a\x00b", "\ud800"])
def test_an_id_from_a_message_cannot_choose_where_a_report_is_written(identifier: str, tmp_path: Path):
    folder = tmp_path / "validation" / "routing"
    page = write_report(folder, {**test_validation_report.REPORT, "adapter_id": identifier})
    assert page.parent == folder
    assert sorted(each.relative_to(tmp_path) for each in tmp_path.rglob("*") if each.is_file()) == sorted(
        each.relative_to(tmp_path) for each in (page, page.with_suffix(".json"))
    )
    assert page != write_report(folder, {**test_validation_report.REPORT, "adapter_id": f"{identifier}x"})


@pytest.fixture(scope="module")
def chromium() -> Iterator[browser.Browser]:
    program = browser.find()
    if program is None:
        services.missing("there is no Chromium here to open pages with")
    with browser.running(program) as running:
        yield running


@pytest.mark.parametrize("text", [f"<script>{ATTACK}</script>", f'<img src=x onerror="{ATTACK}">'])
def test_the_browser_notices_what_runs(text: str, chromium: browser.Browser, tmp_path: Path):
    """Shows that the tests below can fail."""
    page = tmp_path / "page.html"
    page.write_text(f"<!DOCTYPE html><title>t</title><p>{text}</p>")
    chromium.open(page.as_uri())
    chromium.until(lambda: {"console: hit", "dialog: hit"} <= set(chromium.noted))
    assert chromium.run("document.title") == "hit"


def test_a_browser_runs_nothing_of_a_drift_report_and_draws_its_charts(
    written: tuple[Path, str], chromium: browser.Browser
):
    page, _ = written
    chromium.open(page.as_uri())
    chromium.until(lambda: "Drift Summary" in (chromium.run_in_frame("document.body.innerText") or ""))
    drawn = "document.querySelectorAll('.js-plotly-plot').length"
    chromium.until(lambda: chromium.run_in_frame(drawn))
    before = chromium.run_in_frame(drawn)
    assert (
        chromium.run_in_frame("[...document.querySelectorAll('tbody button')].map((each) => each.click()).length") == 1
    )
    chromium.until(lambda: chromium.run_in_frame(drawn) == before + 1)  # the details of the tested column
    assert chromium.run("document.title").startswith("Drift check of routing")
    assert chromium.run("document.scripts.length") == 0
    assert chromium.run("document.querySelectorAll('iframe').length") == 1
    assert chromium.run_in_frame("document.scripts.length") == 3
    assert chromium.run_in_frame("self.origin") == "null"
    assert chromium.run_in_frame("document.querySelectorAll('iframe, object, embed, img[src*=x]').length") == 0
    assert chromium.run_in_frame("document.querySelectorAll('a[href]:not([href^=\"https://plotly\"])').length") == 0
    assert chromium.noted == []


def test_a_browser_runs_nothing_of_a_validation_report(chromium: browser.Browser, tmp_path: Path):
    for seed in SEEDS:
        page = write_report(tmp_path, validation_report(Words(seed)))
        chromium.open(page.as_uri())
        assert chromium.run("document.title").startswith("Validation of")
        assert chromium.run("document.querySelectorAll('script, iframe, img, svg, a, object, form').length") == 0
        assert chromium.noted == []


def test_the_frame_cannot_load_anything_or_leave_its_page(written: tuple[Path, str], chromium: browser.Browser):
    """What a script of Evidently's could do if it were led astray."""
    page, _ = written
    chromium.open(page.as_uri())
    chromium.until(lambda: "Drift Summary" in (chromium.run_in_frame("document.body.innerText") or ""))
    blocked = "fetch('data:text/plain,x').then(() => 'loaded', () => 'blocked')"
    assert chromium.run_in_frame(blocked) == "blocked"
    assert chromium.run_in_frame("try { parent.document.title } catch (error) { error.name }") == "SecurityError"
    chromium.run_in_frame("location = 'data:text/html,<title>gone</title>'")
    chromium.until(lambda: any("frame-src" in each for each in chromium.noted))
    assert chromium.run("location.href") == page.as_uri()


def test_the_shared_file_opened_alone_says_what_it_is_for(chromium: browser.Browser, tmp_path: Path):
    page = tmp_path / viewer().name
    page.write_bytes(viewer().content)
    chromium.open(f"{page.as_uri()}#H4sIAA")
    assert "To see a report, open its page." in " ".join(chromium.run("document.body.innerText").split())
    assert chromium.noted == []


def texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, with the names of its members."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
