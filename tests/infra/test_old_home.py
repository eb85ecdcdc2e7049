"""A home of the version before still holds its documents, adapters, releases, history and settings.

``tests/fixtures/old_home`` was written by the stores of commit f5a32cd, before the packages were rearranged. It holds
at least one row of every table, as SQL, and the files of one adapter and one dataset. ``/HOME`` stands for the folder.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.adapters.files import read_card, read_probes
from infra.adapters.integrity import check_integrity
from infra.adapters.store import FolderAdapters
from infra.published_files import FILE_NAME, FileState, PublishedFiles
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings, load
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.drift import SqlAnswers, SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from infra.sql.indexes import SqlIndexes, SqlVectors
from infra.sql.journal import SqlInFlightMarks, SqlJournal
from infra.sql.migrate import check_migrated, migrate
from infra.sql.releases import SqlReleases
from infra.sql.retention import SqlRetention
from infra.sql.runs import SqlLeases, SqlRunStore
from infra.training.datasets import FolderDatasets
from schemas.datasets import DatasetRow
from schemas.delivery import Claim, InFlight, JournalEntry, Run
from schemas.drift import Baseline, DriftCheck, Finding
from schemas.envelope import Record
from schemas.features import DocumentState, Example, Feedback, Interaction, Stamp
from schemas.indexes import Index, Recipe
from schemas.learning import Window
from schemas.registry import AdapterRecord, ModelRecord
from schemas.release_state import ArmCounts, Release

OLD = Path(__file__).parents[1] / "fixtures" / "old_home"
NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
ADAPTER = "22720aa333a3a6df0c8dd5cbcfac9f87"
DATASET = "258d88676506a053597fee72aacf2c8b"
MODEL = "all-minilm-l6-v2"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old home on disk, as the version before left it."""
    home = tmp_path_factory.mktemp("old") / "home"
    home.mkdir()
    for file, name in (("everlearn", "everlearn.db"), ("registry", "registry.db"), ("published", FILE_NAME)):
        with closing(sqlite3.connect(home / name)) as database:
            database.executescript((OLD / f"{file}.sql").read_text().replace("/HOME", str(home)))
    files = json.loads((OLD / "files.json").read_text().replace("/HOME", str(home)))
    contents = {name: text.encode() for name, text in files["text"].items()}
    contents |= {name: base64.b64decode(text) for name, text in files["base64"].items()}
    for name, content in contents.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    (home / "everlearn.toml").write_text((OLD / "everlearn.toml").read_text())
    return home


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    return load(home, environ={})


@pytest.fixture(scope="module")
def database(settings: Settings) -> Iterator[Database]:
    """The old database, upgraded as ``everlearn up`` does."""
    migrate(settings.sql_url())
    database = Database(settings.sql_url())
    check_migrated(database)
    yield database
    database.close()


def document(name: str) -> DocumentState:
    return DocumentState(
        tenant="default",
        document_id=name,
        version=f"v-{name}",
        content_hash=f"h-{name}",
        chunk_count=2,
        embedding_model=MODEL,
        title=f"About {name}",
        uri=f"https://example.org/{name}",
        submitted_at=NOW,
        event_id=f"e-{name}",
    )


def test_every_old_setting_is_still_known_and_means_the_same(settings: Settings):
    old = tomllib.loads((OLD / "everlearn.toml").read_text())
    tasks = old.pop("tasks")
    now = settings.model_dump(mode="json")
    assert {table: {name: now[table][name] for name in values} for table, values in old.items()} == old
    assert settings.tasks["routing"].instruction == tasks["routing"]["instruction"]


def test_documents_and_what_they_were_made_from_are_there(database: Database):
    documents = SqlDocuments(database)
    coffee, tea = documents.page(None, 10)
    assert coffee == (replace(document("coffee.md"), next_chunk_count=3), None)
    assert tea[0] == document("tea.md")
    assert tea[1] is not None
    assert tea[1].text == "# Tea\n\nSteep for three minutes. ☃"
    assert tea[1].metadata == {"year": 2024, "draft": False, "price": 1.5, "by": "Zoë"}
    gone = ("default", "gone.md")
    assert documents.current([gone]) == {gone: replace(document("gone.md"), withdrawn=True)}
    assert SqlRetiredVersions(database).list(10) == [("default", "tea.md", "v-before")]


def test_indexes_and_kept_embeddings_are_there(database: Database):
    recipe = Recipe(embedding_model=MODEL, chunk_tokens=200, overlap_tokens=40)
    serving = Index(
        index_id="chunks_1",
        scope="",
        recipe=recipe,
        dimension=384,
        state="serving",
        created_at=NOW,
        served_at=NOW + HOUR,
    )
    building = replace(
        serving,
        index_id="chunks_2",
        scope="support",
        recipe=replace(recipe, chunk_tokens=100),
        state="building",
        created_at=NOW + HOUR,
        served_at=None,
    )
    assert SqlIndexes(database).active() == [serving, building]
    vector = SqlVectors(database).find(MODEL, ["h1"], NOW)["h1"]
    assert vector.tolist() == pytest.approx([0.1, -2.5, 3.0])


def test_interactions_and_examples_are_there(database: Database):
    features = SqlFeatureTable(database)
    assert features.get("a1") == Interaction(
        answer_id="a1",
        revision=3,
        outcome="corrected",
        task="routing",
        tenant="default",
        user="u'1",
        session="s1",
        question="Wie geht's? ☃",
        answer="line\nline",
        sources=({"document_id": "tea.md", "score": 0.1, "rank": 1},),
        base_model="smollm2",
        engine="transformers",
        adapter_id=ADAPTER,
        release_sequence=2,
        arm="champion",
        prompt_tokens=12,
        completion_tokens=3,
        latency_ms=12.345678901234567,
        finish_reason="stop",
        declined=False,
        answered_at=NOW,
        answer_stamp=Stamp(time=NOW, event="/answerer e1"),
        rating="down",
        rating_stamp=Stamp(time=NOW + HOUR, event="/web e2"),
        rated_by="unknown",
        rating_trust="unknown",
        correction="better",
        correction_stamp=Stamp(time=NOW + HOUR, event="/web e3"),
        corrected_by="unknown",
        correction_trust="unknown",
        reason="why",
        reason_stamp=Stamp(time=NOW + HOUR, event="/web e4"),
        first_event_at=NOW,
        last_event_at=NOW + HOUR,
    )
    assert features.feedback(["a1", "a2"]) == {
        "a1": [
            Feedback(
                answer_id="a1",
                source="unknown",
                rater="unknown",
                rating="down",
                rating_stamp=Stamp(time=NOW + HOUR, event="/web e2"),
                correction="better",
                correction_stamp=Stamp(time=NOW + HOUR, event="/web e3"),
                reason="why",
                reason_stamp=Stamp(time=NOW + HOUR, event="/web e4"),
            )
        ]
    }
    assert [row.answer_id for row in features.recent("routing", 5)] == ["a2", "a1"]
    example = Example(example_id="x1", task="routing", input="in", output="out", origin="import", submitted_at=NOW)
    assert features.examples("routing", 5) == [example]


def test_releases_their_history_and_what_came_of_them_are_there(database: Database):
    releases = SqlReleases(database)
    started = Release(
        task="routing",
        sequence=1,
        challenger=ADAPTER,
        stage="canary",
        share=0.1,
        salt="s",
        reason="“validated”",
        since_sequence=1,
        since_at=NOW,
        waiting="b" * 32,
        changed_at=NOW,
    )
    promoted = replace(
        started,
        sequence=2,
        champion=ADAPTER,
        challenger=None,
        stage="steady",
        share=0.0,
        waiting=None,
        changed_at=NOW + HOUR,
    )
    assert releases.current("routing") == promoted
    assert [(each.event_type, each.release, each.cause, each.at) for each in releases.history("routing")] == [
        ("everlearn.adapter.promoted.v1", promoted, None, NOW + HOUR),
        ("everlearn.canary.started.v1", started, "e5", NOW),
    ]
    assert releases.counts("routing", sequence=1) == [
        ArmCounts(sequence=2, arm="challenger", asked=1, failed=1, judged=0, bad=0),
        ArmCounts(sequence=2, arm="champion", asked=1, failed=0, judged=1, bad=1),
    ]


def test_drift_checks_and_the_answers_they_are_about_are_there(database: Database):
    window = Window(start=NOW - HOUR, end=NOW, rows=60)
    finding = Finding(kind="outcomes", p_value=1.5e-9, effect=0.25, flagged=True, detail="☃ 12 %")
    assert SqlDriftChecks(database).recent("routing", 5) == [
        DriftCheck(
            check_id="c1",
            task="routing",
            checked_at=NOW,
            baseline=2,
            reference=window,
            current=window,
            findings=(finding,),
            verdict="outcomes",
            remedy="retrain",
            reasons=("one", "two"),
            report_uri="file:///reports/c1.html",
            figures={"rated": 4.0},
            told_at=NOW,
            told="retrain",
        )
    ]
    rows = SqlAnswers(database).rows("routing", Baseline(sequence=2, champion=ADAPTER), limit=5)
    assert [row.answer_id for row in rows] == ["a1"]


def test_the_dataset_and_the_retention_suite_are_there(database: Database, settings: Settings):
    rows = [
        DatasetRow(
            row_id="r1",
            input="question 1",
            output="shipping",
            origin="correction",
            origin_id="a1",
            at=NOW,
            split="train",
            sources=({"chunk_id": "c1"},),
        ),
        DatasetRow(
            row_id="r2",
            input="question 2",
            output="shipping",
            origin="approved",
            origin_id="a2",
            at=NOW,
            split="holdout",
        ),
        DatasetRow(
            row_id="r3",
            input="question 3",
            output="shipping",
            origin="example",
            origin_id="a3",
            at=NOW,
            split="holdout",
            fresh=False,
        ),
    ]
    datasets = FolderDatasets(settings.datasets_folder, database)
    latest = datasets.latest("routing")
    assert latest is not None
    assert (latest.dataset_id, latest.train_rows, latest.holdout_rows, latest.fresh_rows) == (DATASET, 1, 2, 2)
    assert datasets.rows(DATASET) == rows
    retained = SqlRetention(database).rows("routing", 10)
    assert sorted(retained, key=lambda row: row.row_id) == rows[1:]


def test_the_journal_still_holds_what_must_be_published(database: Database):
    record = Record(
        topic="interactions.v1",
        key=b"a1",
        value=b'{"answer_id":"a1"}',
        headers=(("ce_id", b"1"), ("käse", bytes(range(256)))),
    )
    assert SqlJournal(database).find("recorder", ["/web e2", "/web e3"]) == {
        "/web e2": JournalEntry(outputs=(), published=True),
        "/web e3": JournalEntry(outputs=(record,), published=False),
    }
    mark = InFlight(
        topic="feedback.v1",
        partition=1,
        first=7,
        last=9,
        suspects_to=6,
        attempts=1,
        alone=False,
        life="w1",
        since=NOW,
    )
    assert SqlInFlightMarks(database).read("recorder") == [mark]
    assert SqlLeases(database).last("monitor ticks") == NOW


def test_a_run_that_ended_is_shown_and_one_that_waited_goes_on(database: Database):
    runs = SqlRunStore(database)
    arguments = {"task": "routing", "reason": "drift"}
    assert runs.show("run-1") == Run(
        run_id="run-1",
        agent="trainer",
        kind="train",
        state="done",
        attempt=1,
        worker="trainer-1",
        arguments=arguments,
        progress={"done": 0.5, "text": "training: step 4 of 8"},
        created_at=NOW + HOUR,
        started_at=NOW + 5 * HOUR,
        finished_at=NOW + 6 * HOUR,
        result={"adapter_id": ADAPTER},
    )
    assert runs.claim("trainer", "trainer-1", now=NOW + 7 * HOUR, lease_seconds=30) == Claim(
        run_id="run-2", kind="train", arguments=arguments, context={"id": "e6", "source": "/monitor"}, attempt=1
    )


def test_the_adapter_is_unchanged_and_may_be_served(settings: Settings):
    adapters = FolderAdapters(settings.adapters_folder)
    adapters.verify(ADAPTER)
    folder = adapters.path(ADAPTER)
    check_integrity(ADAPTER, folder, task="routing", base_model=settings.model.base, max_bytes=10_000)
    assert read_card(folder).base_revision == "a" * 64
    (probe,) = read_probes(folder)
    assert (probe.messages[0].content, probe.output, probe.engine) == ("Where is my tea?", "shipping", "openvino")


def test_the_registry_knows_its_adapters_models_and_champion(settings: Settings):
    registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
    registry.prepare()
    judged = AdapterRecord(
        adapter_id=ADAPTER,
        task="routing",
        base_model="smollm2-135m-instruct",
        dataset_id=DATASET,
        run_id="run-1",
        size_bytes=1234,
        created_at=NOW,
        version=1,
        cause="e6",
        state="validated",
        scores={"new": 0.9},
        reasons=("it learned ☃",),
        report_uri="file:///reports/v.html",
        aliases=("champion",),
        metrics={"loss": 0.5, "seconds": 60.0},
    )
    trained = replace(
        judged,
        adapter_id="b" * 32,
        created_at=NOW + HOUR,
        version=2,
        state="trained",
        scores={},
        reasons=(),
        report_uri=None,
        aliases=(),
    )
    model = ModelRecord(
        name="smollm2",
        location="smollm2-135m-instruct",
        size_bytes=9,
        created_at=NOW,
        version=1,
        scheme="int8",
        loss=3.25,
        source_version=1,
    )
    try:
        assert registry.adapters("routing") == [trained, judged]
        assert registry.models() == [model]
    finally:
        registry.close()


def test_a_folder_of_documents_is_not_published_again(home: Path):
    published = PublishedFiles(home / FILE_NAME, "kafka:9092", "default", Path("/documents"))
    assert published.load() == {
        "tea.md": FileState(1_700_000_000_000_000_000, 12, "ab" * 32, "{}"),
        "new.md": FileState(None, 5, "cd" * 32, "{}"),
    }
