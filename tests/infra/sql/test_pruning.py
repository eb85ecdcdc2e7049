"""What the janitors delete is found by indexes, in short transactions, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from infra.sql import statements, tables
from infra.sql.database import Database
from infra.sql.drift import SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from infra.sql.indexes import SqlVectors
from infra.sql.journal import SqlJournal
from infra.sql.releases import SqlReleases
from infra.sql.runs import SqlRunStore
from infra.training.datasets import FolderDatasets
from schemas.features import Interaction, Stamp, TaskWindow
from tests.infra.sql.test_drift import CHECK
from tests.infra.sql.test_features import FULL

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def answers(database: Database, *, answered: bool = True) -> None:
    rows = SqlFeatureTable(database)
    for number in range(3):
        at = NOW + timedelta(seconds=number)
        stamp = Stamp(time=at, event="e") if answered else None
        rows.put_interaction(Interaction(answer_id=f"a{number}", task="t", last_event_at=at, answer_stamp=stamp))


def checks(database: Database) -> None:
    for number in range(3):
        SqlDriftChecks(database).add(replace(CHECK, check_id=f"c{number}", checked_at=NOW + timedelta(seconds=number)))


def ended_runs(database: Database) -> None:
    runs = SqlRunStore(database)
    for name in "abc":
        runs.add("trainer", name, "train", {}, {}, NOW)
        runs.claim("trainer", name, now=NOW, lease_seconds=1)
        runs.finish(name, 1, state="done", result={}, now=NOW)


WINDOW = TaskWindow(task="t", start=NOW, end=NOW)
PRUNED: dict[str, tuple[Callable[[Database], object], Callable[[Database], int], int]] = {
    "journal": (
        lambda database: SqlJournal(database).add_many("a", [(name, []) for name in "abc"], NOW),
        lambda database: SqlJournal(database).prune("a", LATER),
        3,
    ),
    "runs": (ended_runs, lambda database: SqlRunStore(database).prune("trainer", LATER), 3),
    "feature rows": (answers, lambda database: SqlFeatureTable(database).prune(LATER, [WINDOW]), 3),
    "pending": (
        lambda database: answers(database, answered=False),
        lambda database: SqlFeatureTable(database).prune_pending(LATER),
        3,
    ),
    "drift checks": (checks, lambda database: SqlDriftChecks(database).prune(LATER), 2),
    "vectors": (
        lambda database: SqlVectors(database).put("m", {name: [0.5] for name in "abc"}, NOW),  # type: ignore[misc]
        lambda database: SqlVectors(database).prune(LATER),
        3,
    ),
}
"""What to fill, what to prune, and how many rows that deletes."""


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    database = Database(migrated_url)
    yield database
    database.close()


@pytest.fixture
def plans(database: Database) -> Iterator[list[str]]:
    """How each SELECT and DELETE finds its rows. PostgreSQL scans a table only where it has no other way."""
    seen: list[str] = []
    explain_by = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"

    def explain(_connection: Any, cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if many or statement.split()[0] not in ("SELECT", "DELETE", "UPDATE"):
            return
        with cursor.connection.cursor() if database.dialect == "postgresql" else _Closing(cursor) as other:
            if database.dialect == "postgresql":
                other.execute("SET LOCAL enable_seqscan = off")
            seen.extend(str(row[-1]) for row in other.execute(f"{explain_by} {statement}", values))

    event.listen(Engine, "before_cursor_execute", explain)
    yield seen
    event.remove(Engine, "before_cursor_execute", explain)


class _Closing:
    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor.connection.cursor()

    def __enter__(self) -> Any:
        return self._cursor

    def __exit__(self, *_: object) -> None:
        self._cursor.close()


@pytest.mark.parametrize("kind", PRUNED)
def test_old_rows_are_found_by_an_index_and_the_second_call_writes_nothing(
    database: Database, plans: list[str], kind: str
):
    fill, prune, count = PRUNED[kind]
    fill(database)
    plans.clear()
    assert prune(database) == count
    assert plans
    assert [step for step in plans if step.startswith("SCAN ") or "Seq Scan" in step] == []
    written: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        written.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert prune(database) == 0
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert {each.split()[0] for each in written} <= {"SELECT", "BEGIN"}
    assert "BEGIN IMMEDIATE" not in written


def test_the_other_statements_of_a_janitor_use_indexes_too(database: Database, plans: list[str], tmp_path):
    checks(database)
    store = SqlDriftChecks(database)
    store.of(["c1", "c2"])
    store.forget_report("c1")
    SqlReleases(database).prune_history("t", below=3, before=NOW)
    FolderDatasets(tmp_path, database).older(NOW)
    with database.transaction():
        FolderDatasets(tmp_path, database).remove("d")
    assert [step for step in plans if step.startswith("SCAN ") or "Seq Scan" in step] == []


def test_a_call_deletes_a_bounded_number_a_portion_in_each_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(statements, "ROWS_PER_DELETE", 10)
    monkeypatch.setattr(statements, "PAUSE_SECONDS", 0.0)
    journal = SqlJournal(database)
    journal.add_many("a", [(f"e{number}", []) for number in range(100)], NOW)
    commits: list[object] = []

    def note(connection: object) -> None:
        commits.append(connection)

    columns = tables.journal.c
    event.listen(Engine, "commit", note)
    try:
        deleted = statements.prune(database, tables.journal, columns.agent == "a", columns.at < LATER, most=25)
    finally:
        event.remove(Engine, "commit", note)
    assert (deleted, len(commits)) == (30, 4)  # one look and three portions
    assert journal.prune("a", LATER) == 70


def test_a_row_that_changes_while_it_is_deleted_is_judged_as_it_is_then(migrated_postgres_url: str):
    """On PostgreSQL the deletion waits for a feedback that is being recorded, and then leaves the row."""
    database, other = Database(migrated_postgres_url), Database(migrated_postgres_url)
    SqlFeatureTable(database).put_interaction(replace(FULL, last_event_at=NOW))
    deleted: list[int] = []
    with database.transaction():
        SqlFeatureTable(database).put_interaction(replace(FULL, last_event_at=LATER))
        SqlFeatureTable(database).get(FULL.answer_id)  # reading writes what was put before
        thread = Thread(target=lambda: deleted.append(SqlFeatureTable(other).prune(NOW + timedelta(hours=1))))
        thread.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'DELETE%'"
        watch = Database(migrated_postgres_url)
        while True:
            with watch.connection() as connection:
                if connection.execute(text(waiting)).scalar_one():
                    break
        watch.close()
    thread.join()
    assert deleted == [0]
    assert SqlFeatureTable(database).get(FULL.answer_id) is not None
    database.close()
    other.close()


def test_a_row_that_is_deleted_while_a_feedback_is_being_recorded_comes_back_whole(migrated_postgres_url: str):
    database, other = Database(migrated_postgres_url), Database(migrated_postgres_url)
    SqlFeatureTable(database).put_interaction(replace(FULL, last_event_at=NOW))
    with database.transaction():
        SqlFeatureTable(database).put_interaction(replace(FULL, last_event_at=LATER))
        assert SqlFeatureTable(other).prune(NOW + timedelta(hours=1)) == 1
    assert SqlFeatureTable(database).get(FULL.answer_id) == replace(FULL, last_event_at=LATER)
    database.close()
    other.close()
