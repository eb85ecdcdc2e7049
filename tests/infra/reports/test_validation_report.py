"""A validation's report: what was decided and why, scores and confusions, and nothing of it can become markup."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from infra.reports.validation import render, write_report

REPORT: dict[str, Any] = {
    "task": "routing",
    "adapter_id": "a7",
    "accepted": False,
    "at": "2026-03-01T12:00:00+00:00",
    "findings": [
        {"passed": True, "sentence": "better than the champion"},
        {"passed": False, "sentence": "forgets"},
    ],
    "lineage": {"dataset_id": "d9", "policy": {"min_rows": 40, "rate": 0.000123456}},
    "metric": "accuracy",
    "reference": "the champion",
    "champion": "a6",
    "scores": {"current.candidate": 0.91, "current.champion": 0.87, "current.base": 0.41, "current.rows": 240.0},
    "base_rows": 60,
    "left_out": 3,
    "confusion": {
        "candidate": [
            {"right": "orders", "said": "orders", "rows": 80},
            {"right": "orders", "said": "other", "rows": 4},
        ],
        "reference": [{"right": "orders", "said": "orders", "rows": 70}],
    },
    "tries": 2,
    "level": 0.0076,
    "stale": [{"suite": "retention", "right": "old", "rows": 2}],
    "flips": {
        "rows": 51,
        "of": 300,
        "listed": [
            {"row_id": "r9", "input": "Why?", "right": "a", "candidate": "b", "reference": "a", "suite": "golden"}
        ],
    },
    "slices": [
        {
            "kind": "label",
            "name": "orders",
            "rows": 84,
            "candidate": 0.5,
            "reference": 0.75,
            "drop": 0.25,
            "passed": False,
        },
    ],
    "small_slices": [{"kind": "tenant", "name": "acme", "rows": 7}],
    "better": [
        {"row_id": "r1", "input": "Where?", "right": "a", "candidate": "a", "reference": "b", "suite": "held-out"}
    ],
    "worse": [
        {"row_id": "r9", "input": "Why?", "right": "a", "candidate": "b", "reference": "a", "suite": "golden"},
    ],
}
HOSTILE = "</script><img src=x onerror=alert(1)>{{ 1 }}"


def words(page: str) -> str:
    """The page as its reader sees it."""
    body = page[page.index("<body>") :]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_failed_checks_come_first_and_scores_of_each_arm_follow():
    seen = words(render(REPORT))
    assert "Rejected : what is served stays as it is. ✗ forgets ✓ better than the champion Scores" in seen
    assert "accuracy, held-out rows 240 0.910 0.870 0.410" in seen
    assert "The base model was asked 60 of the held-out rows. 3 rows were left out" in seen
    assert "accuracy, retention suite" not in seen
    assert "policy min_rows 40, rate 0.0001235" in seen


def test_confusions_name_the_right_labels_first_and_rows_that_changed_are_shown():
    seen = words(render(REPORT))
    assert "what the candidate said (held-out rows) right ↓ said → orders other orders 80 4" in seen
    assert "Rows that got better message right answer the candidate the champion from row Where? a a b held-out" in seen


def test_flips_are_listed_once_and_counted_whole():
    seen = words(render(REPORT))
    assert "Right answers that turned wrong 51 of 300 rows that were judged; 1 of them are listed." in seen
    assert "Why? a b a golden r9" in seen
    assert "Other rows that got worse" not in seen
    partly = {**REPORT["worse"][0], "row_id": "r10"}
    assert "Other rows that got worse message" in words(render({**REPORT, "worse": [partly]}))
    none = {**REPORT, "flips": {"rows": 0, "of": 300, "listed": []}}
    assert "Right answers that turned wrong None of 300 rows" in words(render(none))


def test_slices_tries_and_stale_rows_are_told():
    seen = words(render(REPORT))
    assert "by slice rows candidate champion change label orders 84 0.500 0.750 -0.250 ✗" in seen
    assert "Too few rows to be judged: tenant acme (7)." in seen
    assert (
        "This is candidate 2 that was judged on these held-out rows. It may pass by chance with a probability of"
        in seen
    )
    assert "0.76 %" in seen
    assert "no label of the task any more: 2 × old (retention suite)." in seen
    assert "All rows are alike" in words(render({**REPORT, "slices": [], "small_slices": []}))


def test_an_adapter_that_was_not_examined_has_a_verdict_and_a_lineage():
    fields = ("task", "adapter_id", "accepted", "at", "findings", "lineage")
    seen = words(render({name: REPORT[name] for name in fields}))
    assert "✗ forgets" in seen
    assert "dataset id d9" in seen
    assert "Scores" not in seen


def test_hostile_text_anywhere_stays_text():
    def hostile(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: hostile(each) for name, each in value.items()}
        if isinstance(value, list):
            return [hostile(each) for each in value]
        return HOSTILE if isinstance(value, str) else value

    page = render({**hostile(REPORT), "at": REPORT["at"]})
    assert "<img" not in page
    assert "</script" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;{{ 1 }}") == 32


def test_the_object_and_the_page_are_written_side_by_side(tmp_path: Path):
    page = write_report(tmp_path / "routing", REPORT)
    assert page.read_text(encoding="utf-8") == render(REPORT)
    assert json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["scores"] == REPORT["scores"]
    assert sorted(each.name for each in page.parent.iterdir()) == ["a7.html", "a7.json"]
