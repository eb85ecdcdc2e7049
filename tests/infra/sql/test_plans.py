"""What a store reads does not grow with what has accumulated: no full scans, and the same work on a longer history.

Every method of every store is called on SQLite and on PostgreSQL, on a short and on a long history. Each statement is
explained before it runs. On a small table a full scan is fast too, so nothing is timed: SQLite counts the steps of its
virtual machine, and PostgreSQL the rows that it visits. PostgreSQL may not scan a table where it has any other way, so
a scan that remains is a proof that there is none.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, literal, select, text
from sqlalchemy.engine import Engine

import infra.sql
from benchmarks.history import fill
from infra.sql import tables
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.drift import SqlAnswers, SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from infra.sql.indexes import SqlIndexes, SqlVectors
from infra.sql.journal import SqlInFlightMarks, SqlJournal
from infra.sql.kafka_topics import SqlKnownTopics
from infra.sql.migrate import migrate
from infra.sql.releases import SqlReleases
from infra.sql.retention import SqlRetention
from infra.sql.runs import SqlLeases, SqlRunStore
from infra.sql.secrets import SqlSecrets
from infra.sql.sizes import SqlSizes
from infra.training.datasets import FolderDatasets
from schemas.datasets import DATASET_ROW
from schemas.drift import DRIFT_CHECK, Baseline
from schemas.features import Feedback, Interaction, TaskWindow
from schemas.release_state import RELEASE as AS_JSON
from schemas.release_state import Release
from tests.fixtures.indexes import index
from tests.fixtures.sql import new_postgres_database
from tests.infra.sql.test_documents import STATE
from tests.infra.sql.test_drift import CHECK
from tests.infra.sql.test_features import example
from tests.infra.sql.test_journal import mark, record
from tests.infra.sql.test_retention import row as dataset_row

SHORT, LONG = 1500, 6000
"""Rows of each table that grows."""
RELEASE_ROWS = 250
WINDOW = 50
START = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = [(tenant, f"document {number:06}") for tenant in ("default", "museum") for number in range(40)]
OLD = START + timedelta(seconds=600)
SOME_OLD = START + timedelta(seconds=WINDOW)
"""Before this time are as many rows of each table, however long its history is."""
LEASE = {"now": START, "lease_seconds": 9}
ANSWER = Interaction(
    answer_id="new", task="routing", arm="champion", release_sequence=1, user="u", answered_at=START, outcome="unrated"
)
RELEASE = Release(task="routing", sequence=1)

SMALL_TABLES = {
    "inflight": "a row for each partition of an agent's topics",
    "indexes": "a row for each index, and replaced indexes are dropped",
    "kafka_topics": "a row for each topic",
    "leases": "a row for each tick",
    "releases": "a row for each task",
    "secrets": "a row for each purpose",
}
RARE = {
    (SqlDocuments, "adopt_counts"): "once, when a rebuilt index begins to serve; it changes every document",
    (SqlDocuments, "totals"): "counts all documents for 'index status', and once when a rebuild begins",
    (SqlRetiredVersions, "count"): "counts for 'index status' what the sweep has not deleted yet",
    (SqlReleases, "lock"): "reads no table",
    (SqlIndexes, "hold"): "reads no table",
    (SqlFeatureTable, "transaction"): "reads no table",
    (SqlKnownTopics, "meet"): "reads a small table; once for each topic it goes through an agent's journal",
    (SqlSizes, "tables"): "measures the whole database for 'storage'",
    (SqlSizes, "older"): "counts for 'storage' what the janitors have not deleted yet",
    (SqlSizes, "old_interactions"): "counts for 'storage' what the janitors have not deleted yet",
    (FolderDatasets, "put"): "writes files, and one row",
    (FolderDatasets, "rows"): "reads a file",
    (FolderDatasets, "quarantined"): "reads a file",
}
"""Methods that are not called here, and why."""


@dataclass(frozen=True)
class World:
    """A database with a history of this many rows."""

    database: Database
    rows: int

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.rows)

    @property
    def sequence(self) -> int:
        return (self.rows - 1) // RELEASE_ROWS + 1

    @property
    def baseline(self) -> Baseline:
        """The newest release."""
        return Baseline(sequence=self.sequence, champion=f"x{self.sequence // 4}")

    def answer_ids(self) -> list[str]:
        some = "SELECT answer_id FROM interactions WHERE task = 'routing' ORDER BY last_event_at DESC LIMIT 20"
        with self.database.connection() as connection:
            return list(connection.execute(text(some)).scalars())


def correct(features: SqlFeatureTable, world: World) -> None:
    for row in features.interactions(world.answer_ids()).values():
        features.put_interaction(replace(row, outcome="corrected"))


def rate(features: SqlFeatureTable, world: World) -> None:
    for answer_id in world.answer_ids():
        features.put_feedback(Feedback(answer_id=answer_id, source="user", rater="u", rating="up"))
    features.get("unknown")  # which writes what was put before


def change(releases: SqlReleases, world: World) -> None:
    releases.change(replace(RELEASE, sequence=2), event_type="e", cause=None, at=world.now)


Call = Callable[[Any, World], object]
CALLS: list[tuple[type, str, Call]] = [
    (SqlJournal, "find", lambda journal, _: journal.find("a", [f"e{number}" for number in range(200)])),
    (SqlJournal, "add", lambda journal, _: journal.add("a", "new", [record()], START)),
    (SqlJournal, "add_many", lambda journal, _: journal.add_many("a", [("new", ()), ("newer", ())], START)),
    (SqlJournal, "mark_published", lambda journal, _: journal.mark_published("a", ["e1", "e2"])),
    (SqlJournal, "newest", lambda journal, _: journal.newest("a")),
    (SqlJournal, "newest", lambda journal, _: journal.newest("unknown")),
    (SqlJournal, "unpublished", lambda journal, _: journal.unpublished("a", "e")),
    (SqlJournal, "prune", lambda journal, _: journal.prune("a", START + timedelta(seconds=WINDOW))),
    (SqlInFlightMarks, "read", lambda marks, _: marks.read("a")),
    (SqlInFlightMarks, "write", lambda marks, _: marks.write("a", [mark(0)])),
    (SqlRunStore, "add", lambda runs, _: runs.add("a", "new", "train", {}, {}, START)),
    (SqlRunStore, "claim", lambda runs, _: runs.claim("a", "other", **LEASE)),
    (SqlRunStore, "claim", lambda runs, _: runs.claim("idle", "w", **LEASE)),
    (SqlRunStore, "renew", lambda runs, _: runs.renew("run 1", 1, **LEASE)),
    (SqlRunStore, "report", lambda runs, _: runs.report("run 1", 1, {"done": 0.5})),
    (SqlRunStore, "finish", lambda runs, _: runs.finish("run 1", 1, state="done", result={}, now=START)),
    (SqlRunStore, "release", lambda runs, _: runs.release("run 2", 1, now=START, retry_in_seconds=1)),
    (SqlRunStore, "show", lambda runs, _: runs.show("run 7")),
    (SqlRunStore, "unfinished", lambda runs, _: runs.unfinished("a")),
    (SqlRunStore, "of_task", lambda runs, _: runs.of_task("a", "routing", 20)),
    (SqlRunStore, "of_task", lambda runs, _: runs.of_task("a", "unknown", 20)),
    (SqlKnownTopics, "all", lambda topics, _: topics.all()),
    (SqlLeases, "acquire", lambda leases, _: leases.acquire("tick", "w", now=START, seconds=9)),
    (SqlLeases, "last", lambda leases, _: leases.last("tick")),
    (SqlLeases, "set_last", lambda leases, _: leases.set_last("tick", START)),
    (SqlLeases, "generation", lambda leases, _: leases.generation("tick")),
    (SqlLeases, "start_over", lambda leases, _: leases.start_over("tick", START, 1)),
    (SqlDocuments, "current", lambda documents, _: documents.current(KEYS)),
    (SqlDocuments, "put", lambda documents, _: documents.put(replace(STATE, withdrawn=True))),
    (SqlDocuments, "page", lambda documents, _: documents.page(KEYS[7], WINDOW)),
    (SqlDocuments, "states", lambda documents, _: documents.states(KEYS[7], WINDOW)),
    (SqlDocuments, "any_of", lambda documents, _: documents.any_of("default")),
    (SqlDocuments, "any_of", lambda documents, _: documents.any_of("unknown")),
    (SqlDocuments, "count_next", lambda documents, _: documents.count_next({KEYS[1]: ("v1", 3)})),
    (SqlRetiredVersions, "add", lambda retired, _: retired.add("default", "d", "v1", START)),
    (SqlRetiredVersions, "list", lambda retired, _: retired.list(WINDOW)),
    (SqlRetiredVersions, "remove", lambda retired, _: retired.remove([(*key, "v1") for key in KEYS])),
    (SqlIndexes, "active", lambda indexes, _: indexes.active()),
    (SqlIndexes, "all", lambda indexes, _: indexes.all()),
    (SqlIndexes, "add", lambda indexes, _: indexes.add(index("i1"))),
    (SqlIndexes, "serve", lambda indexes, _: indexes.serve("i1", START)),
    (SqlIndexes, "retire", lambda indexes, _: indexes.retire("i1")),
    (SqlIndexes, "remove", lambda indexes, _: indexes.remove("i1")),
    (SqlVectors, "find", lambda vectors, world: vectors.find("m", [f"h{n}" for n in range(90)], world.now)),
    (SqlVectors, "find", lambda vectors, _: vectors.find("m", ["h1", "h2"], START + timedelta(days=9))),
    (SqlVectors, "put", lambda vectors, _: vectors.put("m", {"new": np.ones(2, np.float32)}, START)),
    (SqlVectors, "prune", lambda vectors, _: vectors.prune(START + timedelta(seconds=WINDOW))),
    (SqlFeatureTable, "interactions", lambda features, world: features.interactions(world.answer_ids())),
    (SqlFeatureTable, "put_interaction", correct),
    (SqlFeatureTable, "put_interaction", lambda features, _: features.put_interaction(ANSWER)),
    (SqlFeatureTable, "feedback", lambda features, world: features.feedback(world.answer_ids())),
    (SqlFeatureTable, "put_feedback", rate),
    (SqlFeatureTable, "put_example", lambda features, _: features.put_example(example(10**6))),
    (SqlFeatureTable, "get", lambda features, _: features.get("unknown")),
    (SqlFeatureTable, "recent", lambda features, _: features.recent(None, WINDOW)),
    (SqlFeatureTable, "recent", lambda features, _: features.recent("support", WINDOW)),
    (SqlFeatureTable, "recent", lambda features, _: features.recent("unknown", WINDOW)),
    (SqlFeatureTable, "rated", lambda features, _: features.rated("routing", WINDOW)),
    (SqlFeatureTable, "rated", lambda features, _: features.rated("routing", WINDOW, since=OLD)),
    (SqlFeatureTable, "rated", lambda features, _: features.rated("unknown", WINDOW)),
    (SqlFeatureTable, "examples", lambda features, _: features.examples("routing", WINDOW)),
    (SqlFeatureTable, "examples", lambda features, _: features.examples("routing", WINDOW, since=OLD)),
    (SqlFeatureTable, "examples", lambda features, _: features.examples("routing", WINDOW, golden=True)),
    (SqlReleases, "current", lambda releases, _: releases.current("routing")),
    (SqlReleases, "all", lambda releases, _: releases.all()),
    (SqlReleases, "change", change),
    (SqlReleases, "amend", lambda releases, _: releases.amend(RELEASE)),
    (SqlReleases, "history", lambda releases, _: releases.history("routing", 20)),
    (SqlReleases, "counts", lambda releases, world: releases.counts("routing", sequence=world.sequence - 3)),
    (SqlDriftChecks, "add", lambda checks, _: checks.add(replace(CHECK, check_id="new"))),
    (SqlDriftChecks, "recent", lambda checks, _: checks.recent("routing", 20)),
    (SqlDriftChecks, "recent", lambda checks, _: checks.recent("unknown", 20)),
    (SqlDriftChecks, "recent", lambda checks, _: checks.recent(None, 20)),
    (SqlAnswers, "count", lambda answers, world: answers.count("routing", world.baseline, limit=WINDOW)),
    (SqlAnswers, "count", lambda answers, _: answers.count("routing", Baseline(), limit=WINDOW)),
    (SqlAnswers, "count", lambda answers, world: answers.count("routing", Baseline(), since=world.now, limit=WINDOW)),
    (SqlAnswers, "count", lambda answers, _: answers.count("routing", Baseline(), rated=True, limit=WINDOW)),
    (SqlAnswers, "count", lambda answers, _: answers.count("unknown", Baseline(), rated=True, limit=WINDOW)),
    (SqlAnswers, "rows", lambda answers, world: answers.rows("routing", world.baseline, limit=WINDOW)),
    (SqlAnswers, "rows", lambda answers, world: answers.rows("routing", world.baseline, newest=True, limit=WINDOW)),
    (SqlAnswers, "rows", lambda answers, _: answers.rows("routing", Baseline(), limit=WINDOW)),
    (SqlAnswers, "rows", lambda answers, _: answers.rows("routing", Baseline(), newest=True, limit=WINDOW)),
    (
        SqlAnswers,
        "last_of_others",
        lambda answers, world: answers.last_of_others("routing", world.baseline.champion, world.sequence),
    ),
    (SqlRetention, "add", lambda suite, _: suite.add("routing", [dataset_row(10**6)], "d", START)),
    (SqlSecrets, "secret", lambda secrets, _: secrets.secret("split")),
    (SqlRetention, "rows", lambda suite, _: suite.rows("routing", WINDOW)),
    (SqlRunStore, "prune", lambda runs, _: runs.prune("a", SOME_OLD)),
    (SqlFeatureTable, "prune", lambda features, _: features.prune(SOME_OLD)),
    (
        SqlFeatureTable,
        "prune",
        lambda features, _: features.prune(SOME_OLD, [TaskWindow(task="t", start=START, end=OLD)]),
    ),
    (SqlFeatureTable, "prune_pending", lambda features, _: features.prune_pending(SOME_OLD)),
    (SqlDriftChecks, "of", lambda checks, _: checks.of([f"c{number}" for number in range(200)])),
    (SqlDriftChecks, "forget_report", lambda checks, _: checks.forget_report("c1")),
    (SqlDriftChecks, "prune", lambda checks, _: checks.prune(SOME_OLD)),
    (SqlReleases, "prune_history", lambda releases, _: releases.prune_history("routing", below=WINDOW, before=OLD)),
    (SqlReleases, "prune_tallies", lambda releases, _: releases.prune_tallies("routing", below=3)),
    (FolderDatasets, "older", lambda datasets, _: datasets.older(START)),
    (FolderDatasets, "remove", lambda datasets, _: datasets.remove("d1")),
    (FolderDatasets, "manifest", lambda datasets, _: datasets.manifest("unknown")),
    (FolderDatasets, "recent", lambda datasets, _: datasets.recent(None, 20)),
    (FolderDatasets, "recent", lambda datasets, _: datasets.recent("unknown", 20)),
    (FolderDatasets, "latest", lambda datasets, _: datasets.latest("unknown")),
]

_check = {"details": DRIFT_CHECK.dump_python(CHECK, mode="json"), "baseline": 1}
_manifest = {
    "dataset_id": "d",
    "task": "routing",
    "created_at": START.isoformat(),
    "train_rows": 1,
    "holdout_rows": 0,
    "fresh_rows": 1,
}
_row = DATASET_ROW.dump_python(dataset_row(1), mode="json")


FILLED: dict[str, Callable[[int, datetime], dict[str, Any]]] = {
    "journal": lambda n, at: {"agent": "a", "identity": f"e{n}", "outputs": b"\1\0\0\0\0", "published": True, "at": at},
    "runs": lambda n, at: {
        "run_id": f"run {n}",
        "agent": "a",
        "kind": "train",
        "arguments": {"task": "routing"},
        "task": "routing",
        "context": {},
        "state": {1: "running", 2: "running", 3: "queued"}.get(n, "done"),
        "attempt": 1,
        "spared": 0,
        "worker": "w",
        "lease_until": START + timedelta(days=900),
        "due_at": at,
        "result": {},
        "created_at": at,
        "finished_at": None if n in (1, 2, 3) else at,
    },
    "documents": lambda n, at: {
        **vars(STATE),
        "tenant": ("default", "museum")[n % 2],
        "document_id": f"document {n // 2:06}",
        "submitted_at": at,
    },
    "contents": lambda n, _: {"tenant": "other", "document_id": f"document {n}", "version": "v1", "event": b""},
    "retired_versions": lambda n, at: {
        "tenant": ("default", "museum")[n % 2],
        "document_id": f"document {n // 2:06}",
        "version": "v1",
        "retired_at": at,
    },
    "vectors": lambda n, at: {"embedding_model": "m", "text_hash": f"h{n}", "vector": bytes(8), "used_at": at},
    "examples": lambda n, at: {**vars(example(n)), "submitted_at": at, "recorded_at": at},
    "datasets": lambda n, at: {"dataset_id": f"d{n}", "task": "routing", "created_at": at, "manifest": _manifest},
    "retention_rows": lambda n, at: {
        "task": "routing",
        "row_id": f"r{n}",
        "dataset_id": "d",
        "added_at": at,
        "row": _row,
        "sampling_key": dataset_row(n).sampling_key,
    },
    "drift_checks": lambda n, at: {"check_id": f"c{n}", "task": "routing", "checked_at": at, **_check},
    "release_history": lambda n, at: {
        "task": "routing",
        "sequence": 10 + n,
        "event_type": "e",
        "at": at,
        "state": AS_JSON.dump_python(RELEASE, mode="json"),
    },
}
"""A row of each table by its number and its time; ``benchmarks.history`` fills the feature table and its tallies.

One rater has rated each of its answers."""


@dataclass
class Work:
    """What the statements of one call cost, and what is wrong with how they find their rows."""

    units: int = 0
    statements: int = 0
    faults: list[str] = field(default_factory=list)


class Undone(Exception):
    """Ends the transaction of a call without a trace."""


@contextmanager
def measured(dialect: str) -> Iterator[Work]:
    """Explains every statement inside the block, and adds up the work that it is."""
    work = Work()
    explain = _explain_on_sqlite if dialect == "sqlite" else _explain_on_postgresql

    def before(_connection: Any, cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if statement.split()[0] in ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"):
            work.statements += 1
            explain(work, cursor.connection, statement, values[0] if many else values)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield work
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def _explain_on_sqlite(work: Work, connection: Any, statement: str, values: Any) -> None:
    connection.set_progress_handler(None, 0)
    for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", values):
        scanned = re.match(r"SCAN (\w+)( USING .*INDEX)?", step)
        if scanned is None or scanned[1] not in tables.METADATA.tables or scanned[1] in SMALL_TABLES:
            continue
        if scanned[2] is None or "LIMIT" not in statement:
            work.faults.append(f"{step}: {statement}")

    def count() -> None:
        work.units += 1

    connection.set_progress_handler(count, 1)


def _explain_on_postgresql(work: Work, connection: Any, statement: str, values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT before")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF, FORMAT JSON) {statement}", values)
        (((plan,),),) = cursor.fetchall()
        cursor.execute("ROLLBACK TO before")
    nodes = [plan["Plan"]]
    while nodes:
        node = nodes.pop()
        nodes += node.get("Plans", [])
        if "Scan" in node["Node Type"]:
            visited = sum(node.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
            work.units += int((node["Actual Rows"] + visited) * node["Actual Loops"])
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in SMALL_TABLES:
            work.faults.append(f"Seq Scan on {node['Relation Name']}: {statement}")


def work_of(world: World, store: type, call: Call) -> Work:
    """Makes the call in a transaction that is undone."""
    made = store(Path("nowhere"), world.database) if store is FolderDatasets else store(world.database)
    with suppress(Undone), measured(world.database.dialect) as work, world.database.transaction():
        call(made, world)
        raise Undone
    return work


def filled(url: str, rows: int) -> World:
    migrate(url)
    database = Database(url)
    fill(database, 0, rows - 1, release_rows=RELEASE_ROWS)
    with database.connection(write=True) as connection:
        names = tables.interactions.c.answer_id
        words = select(names, literal("user"), literal("u"), literal("up"))
        columns = ["answer_id", "source", "rater", "rating"]
        connection.execute(tables.feedback.insert().from_select(columns, words))
        for name, make in FILLED.items():
            some = [make(number, START + timedelta(seconds=number)) for number in range(rows)]
            connection.execute(tables.METADATA.tables[name].insert(), some)
        connection.execute(
            tables.releases.insert(),
            {"task": "routing", "sequence": 1, "state": AS_JSON.dump_python(RELEASE, mode="json"), "changed_at": START},
        )
        if database.dialect == "postgresql":
            connection.execute(text("ANALYZE"))
    return World(database=database, rows=rows)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def worlds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, World]]:
    """A short and a long history."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("plans")
        short, long = (filled(f"sqlite:///{folder}/{rows}.db", rows) for rows in (SHORT, LONG))
        yield short, long
        short.database.close()
        long.database.close()
        return
    server = request.getfixturevalue("postgres_url")
    with new_postgres_database(server, "plans_short") as one, new_postgres_database(server, "plans_long") as other:
        short, long = filled(one, SHORT), filled(other, LONG)
        yield short, long
        short.database.close()
        long.database.close()


@pytest.mark.parametrize(
    ("store", "method", "call"), CALLS, ids=[f"{store.__name__}.{name}" for store, name, _ in CALLS]
)
def test_the_work_does_not_grow_with_the_history(worlds: tuple[World, World], store: type, method: str, call: Call):
    short, long = (work_of(world, store, call) for world in worlds)
    assert short.statements > 0
    assert short.faults + long.faults == []
    assert long.units <= short.units * 1.2 + 20


@pytest.mark.parametrize("condition", ["question = 'what'", "arm = 'champion' AND answer = 'what'"])
def test_a_statement_that_reads_everything_is_noticed(worlds: tuple[World, World], condition: str):
    def call(_: SqlFeatureTable, world: World) -> None:
        with world.database.connection() as connection:
            connection.execute(select(tables.interactions.c.answer_id).where(text(condition))).all()

    short, long = (work_of(world, SqlFeatureTable, call) for world in worlds)
    assert short.faults
    assert long.units > short.units * 3


def test_every_method_of_every_store_is_called_or_its_exception_has_a_reason():
    called = {(store, method) for store, method, _ in CALLS}
    modules = (import_module(each.name) for each in walk_packages(infra.sql.__path__, "infra.sql."))
    stores = {store for module in modules for name, store in vars(module).items() if name.startswith("Sql")}
    methods = {
        (store, name)
        for store in {*stores, FolderDatasets}
        for name, _ in inspect.getmembers(store, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods - called - RARE.keys() == set(), "add a call to CALLS, or a reason to RARE"
    assert (called | RARE.keys()) - methods == set()


def test_every_table_has_rows_here_or_is_small():
    assert (
        set(tables.METADATA.tables)
        == {"interactions", "feedback", "arm_tallies", "user_tallies"} | FILLED.keys() | SMALL_TABLES.keys()
    )


def test_documents_and_versions_are_found_by_their_keys_alone(migrated_url: str):
    database = Database(migrated_url)
    documents, retired = SqlDocuments(database), SqlRetiredVersions(database)
    with database.transaction():
        for tenant, name in KEYS:
            documents.put(replace(STATE, tenant=tenant, document_id=name))
            retired.add(tenant, name, "v1", START)
    wanted = [KEYS[1], KEYS[-2], KEYS[3], ("museum", "nothing")]
    assert documents.current(wanted).keys() == set(wanted[:3])
    retired.remove([(*key, "v1") for key in wanted[:2]] + [(*wanted[2], "v2")])
    assert {key[:2] for key in retired.list(100)} == set(KEYS) - set(wanted[:2])
    database.close()
