"""``everlearn adapters``: what is registered, and an adapter back to the feedback and the drift it came from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.cli.adapters import causing, concerning
from agents.delivery.runs import runs_source
from infra.adapters.files import WEIGHTS, install
from infra.registry.mlflow import MlflowRegistry
from infra.reports.validation import write_report
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.drift import SqlDriftChecks
from infra.sql.releases import SqlReleases
from infra.sql.runs import SqlRunStore
from infra.training.datasets import FolderDatasets
from schemas.datasets import DatasetRow
from schemas.drift import DriftCheck
from schemas.envelope import derived_id
from schemas.learning import Window
from schemas.registry import AdapterRecord
from schemas.release_state import Release, ReleaseChange
from schemas.tasks import TaskFingerprint
from tests.agents.cli.conftest import Everlearn
from tests.infra.adapters.test_files import make

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
WINDOW = Window(start=NOW, end=NOW + timedelta(hours=1), rows=200)
CHECK = DriftCheck(
    check_id="check-1", task="routing", checked_at=NOW, baseline=1, reference=WINDOW, current=WINDOW, findings=(),
    verdict="quality", remedy="retrain", reasons=("answers got worse: 0.1 to 0.6 bad",), report_uri="file:///drift.html",
)  # fmt: skip
CAUSE = derived_id(runs_source("monitor"), derived_id("monitor", "run", "check-1"), "monitor", 0)


@pytest.fixture
def database(database_url: str):
    database = Database(database_url)
    yield database
    database.close()


def record(adapter_id: str, **changes: object) -> AdapterRecord:
    values = AdapterRecord(
        adapter_id=adapter_id, task="routing", base_model="tiny", dataset_id="d" * 32, run_id="run-1",
        size_bytes=1_500_000, created_at=NOW, cause=CAUSE, metrics={"loss": 0.5, "seconds": 60.0},
    )  # fmt: skip
    return replace(values, **changes)  # type: ignore[arg-type]  # values of any field


def row(number: int, **changes: object) -> DatasetRow:
    values = DatasetRow(
        row_id=f"r{number}", input=f"in {number}", output="billing", origin="correction", origin_id=f"answer-{number}",
        at=NOW, split="train",
    )  # fmt: skip
    return replace(values, **changes)  # type: ignore[arg-type]  # values of any field


def test_adapters_are_listed_newest_first(everlearn: Everlearn, registry: MlflowRegistry):
    assert everlearn("adapters", "list").out.startswith("No adapter is registered: train one")
    assert everlearn("adapters", "list", "routing").out.startswith("No adapter of routing is registered")
    assert "there is no task 'zz': choose from routing, support" in everlearn("adapters", "list", "zz").err
    registry.register(record("a" * 32))
    registry.register(record("b" * 32, created_at=NOW + timedelta(hours=1)))
    registry.register(record("c" * 32, task="support"))
    registry.judge("a" * 32, state="validated", scores={"exact_match": 0.8125}, reasons=(), report_uri=None)
    registry.judge("b" * 32, state="rejected", scores={}, reasons=("it forgot\nall",), report_uri=None)
    registry.set_aliases("routing", champion="a" * 32, challenger=None)
    lines = everlearn("adapters", "list", "routing", "--json").lines
    assert [(each["adapter_id"], each["state"], each["aliases"]) for each in lines] == [
        ("b" * 32, "rejected", []),
        ("a" * 32, "validated", ["champion"]),
    ]
    assert len(everlearn("adapters", "list", "--json").lines) == 3
    head, newest, oldest = everlearn("adapters", "list", "routing").out.splitlines()
    assert head.split() == ["ADAPTER", "TASK", "VERSION", "STATE", "SERVES", "AS", "TRAINED", "SCORES"]
    assert newest.startswith("bbbbbbbbbbbb  routing  2        rejected   –")
    assert newest.endswith("it forgot all")
    assert "champion" in oldest
    assert oldest.endswith("exact_match 0.812")


@pytest.fixture
def learned(settings: Settings, registry: MlflowRegistry, database: Database, tmp_path: Path) -> str:
    """An adapter with everything behind it: drift, a run, a dataset, files, releases. Gives its id."""
    adapter_id, _ = install(make(tmp_path / "saved"), settings.adapters_folder)
    rows = [row(number) for number in range(8)]
    rows += [row(8, split="holdout"), row(9, origin="approved"), row(10, origin="example", fresh=False)]
    manifest = FolderDatasets(settings.datasets_folder, database).put(
        "routing", rows, created_at=NOW, window_start=NOW, window_end=NOW + timedelta(hours=1)
    )
    SqlDriftChecks(database).add(CHECK)
    runs = SqlRunStore(database)
    runs.add("trainer", "run-1", "train", {"task": "routing"}, {}, NOW)
    runs.claim("trainer", "trainer-1", now=NOW, lease_seconds=60)
    runs.finish("run-1", 1, state="done", result={}, now=NOW + timedelta(seconds=75))
    task = TaskFingerprint(instruction="Which team?", labels=("returns",))
    registry.register(record(adapter_id, dataset_id=manifest.dataset_id, trained_as=task))
    registry.judge(
        adapter_id, state="validated", scores={"exact_match": 0.75}, reasons=("better",), report_uri="file:///v"
    )
    canary = Release(task="routing", sequence=1, challenger=adapter_id, stage="canary", share=0.1, reason="validated")
    champion = Release(task="routing", sequence=2, champion=adapter_id, reason="as good as it should be")
    with database.transaction():
        for release, event in ((canary, "everlearn.canary.started.v1"), (champion, "everlearn.adapter.promoted.v1")):
            SqlReleases(database).change(release, event_type=event, cause="e", at=NOW)
    return adapter_id


def test_an_adapter_is_shown_back_to_dataset_feedback_and_cause(everlearn: Everlearn, learned: str):
    (shown,) = everlearn("adapters", "show", learned[:6], "--json").lines
    assert (shown["adapter_id"], shown["files"], shown["scores"]) == (learned, "intact", {"exact_match": 0.75})
    assert (shown["trained_as"]["instruction"], shown["validated_as"]) == ("Which team?", None)
    lineage = shown["lineage"]
    assert lineage["dataset"]["counts"] == {"correction": 9, "approved": 1, "example": 1}
    assert (lineage["dataset"]["train_rows"], lineage["dataset"]["holdout_rows"]) == (10, 1)
    assert lineage["corrections"] == {"count": 8, "answers": [f"answer-{number}" for number in range(8)]}
    assert (lineage["run"]["state"], lineage["run"]["worker"]) == ("done", "trainer-1")
    assert lineage["cause"]["kind"] == "drift"
    assert (lineage["cause"]["check_id"], lineage["cause"]["report_uri"]) == ("check-1", "file:///drift.html")
    assert [(each["role"], each["share"]) for each in lineage["releases"]] == [("challenger", 0.1), ("champion", 0.0)]
    text = everlearn("adapters", "show", learned).out
    for line in (
        "size          1.5 MB",
        "scores        exact_match 0.75",
        "files         intact",
        "rows          10 to train on, 1 held out, 10 of the window (1 approved, 9 correction, 1 example)",
        "learned from  8 corrected answers: answer-0, answer-1, answer-2, answer-3, answer-4 and 3 more",
        "training run  run-1 (75 s, 1 attempt)",
        "because of    drift of quality: answers got worse: 0.1 to 0.6 bad",
        "drift report  file:///drift.html",
    ):
        assert line in text
    assert "challenger for 10% of the users (release 1): validated" in text
    assert "champion (release 2): as good as it should be" in text


def test_right_answers_that_an_adapter_turned_wrong_are_shown(everlearn: Everlearn, learned: str, settings: Settings):
    listed = [
        {
            "row_id": f"r{n}",
            "input": f"message\x1b {n}",
            "right": "a",
            "reference": "a",
            "candidate": "b",
            "suite": "golden",
        }
        for n in range(7)
    ]
    (shown,) = everlearn("adapters", "show", learned, "--json").lines
    assert (shown["flips"], shown["tries"], shown["level"]) == (None, None, None)
    report = {
        "task": "routing", "adapter_id": learned, "accepted": True, "findings": [], "lineage": {},
        "tries": 2, "level": 0.0076, "flips": {"rows": 60, "of": 800, "listed": listed},
    }  # fmt: skip
    folder = settings.reports_folder / "validation" / "routing"
    page = write_report(folder, report)
    (shown,) = everlearn("adapters", "show", learned, "--json").lines
    assert (shown["flips"], shown["tries"], shown["level"]) == (report["flips"], 2, 0.0076)
    text = everlearn("adapters", "show", learned).out
    assert "try           2 on these rows, at the level 0.0076" in text
    assert "flips         60 of 800 rows turned from right to wrong" in text
    assert "r4  message\ufffd 4: right is a, said was a, and now b" in text
    assert "r5" not in text
    assert "and 55 more" in text
    page.with_suffix(".json").write_text("{")
    assert "flips" not in everlearn("adapters", "show", learned).out


def test_what_is_gone_is_said_and_the_rest_shown(everlearn: Everlearn, learned: str, settings: Settings):
    (settings.adapters_folder / learned / WEIGHTS).unlink()
    shutil.rmtree(settings.datasets_folder)
    (shown,) = everlearn("adapters", "show", learned, "--json").lines
    assert f"has no {WEIGHTS}" in shown["files"]
    assert shown["lineage"]["corrections"] == {"count": 0, "answers": []}
    assert shown["lineage"]["dataset"]["train_rows"] == 10


@pytest.mark.usefixtures("database")
def test_an_adapter_without_a_past_is_shown_too(everlearn: Everlearn, registry: MlflowRegistry):
    registry.register(record("e" * 32, cause="asked"))
    (shown,) = everlearn("adapters", "show", "e", "--json").lines
    assert shown["lineage"]["dataset"] is None
    assert shown["lineage"]["cause"]["kind"] == "request"
    text = everlearn("adapters", "show", "e").out
    assert f"dataset       {'d' * 32} (not here any more)" in text
    assert "because of    the request asked" in text


@pytest.mark.usefixtures("database")
def test_an_id_must_mean_one_adapter(everlearn: Everlearn, registry: MlflowRegistry):
    registry.register(record("ab" * 16))
    registry.register(record("ac" * 16))
    for wanted, reason in (("a", "2 adapters begin with 'a'"), ("zz", "no adapter 'zz'"), ("", "no adapter ''")):
        result = everlearn("adapters", "show", wanted)
        assert result.code == 1
        assert reason in result.err
        assert result.err.count("\n") == 1


def change(sequence: int, **state: object) -> ReleaseChange:
    release = Release(task="t", sequence=sequence, **state)  # type: ignore[arg-type]  # values of any field
    return ReleaseChange(release=release, event_type="e", cause=None, at=NOW)


def test_only_the_changes_that_concern_an_adapter_are_its_history():
    history = [
        change(1, champion="old"),
        change(2, champion="old", challenger="new", share=0.1),
        change(3, champion="old", challenger="new", share=0.5),
        change(4, champion="new"),
        change(5, champion="new", challenger="next", share=0.1),
        change(6, champion="next"),
        change(7, champion="next", challenger="other", share=0.1),
    ]
    assert [each.release.sequence for each in concerning(reversed(history), "new")] == [2, 3, 4, 6]
    assert concerning(history, "none") == []


def test_a_cause_is_the_check_that_told_of_drift():
    others = [replace(CHECK, check_id=f"other-{number}") for number in range(3)]
    assert causing([*others, CHECK], CAUSE) == CHECK
    assert causing(others, CAUSE) is None
    assert causing([CHECK], None) is None
