"""SQLite finds documents by their keys. Query plans show it, because on a small table a full scan is fast too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from infra.sql.database import Database
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.migrate import migrate
from tests.infra.sql.test_documents import NOW, STATE

KEYS = [(tenant, f"document {number}") for tenant in ("default", "museum") for number in range(40)]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    url = f"sqlite:///{tmp_path}/everlearn.db"
    migrate(url)
    return Database(url)


@pytest.fixture
def steps() -> Iterator[list[str]]:
    """How SQLite finds the rows of each statement; filled while the statements run."""
    seen: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if not many and statement.split()[0] in ("SELECT", "DELETE", "UPDATE"):
            seen.extend(row[3] for row in cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    event.listen(Engine, "before_cursor_execute", explain)
    yield seen
    event.remove(Engine, "before_cursor_execute", explain)


@pytest.mark.parametrize(
    "use",
    [
        lambda database: SqlDocuments(database).current(KEYS),
        lambda database: SqlDocuments(database).put(replace(STATE, withdrawn=True)),
        lambda database: SqlRetiredVersions(database).remove([(*key, "v1") for key in KEYS]),
    ],
    ids=["current", "withdrawal", "retired versions"],
)
def test_documents_are_found_by_their_keys(
    database: Database, steps: list[str], use: Callable[[Database], object]
) -> None:
    use(database)
    assert any(step.startswith("SEARCH") for step in steps)
    assert [step for step in steps if step.startswith("SCAN ") and "CONSTANT" not in step] == []


def test_only_what_is_asked_for_is_found_and_removed(database: Database) -> None:
    documents, retired = SqlDocuments(database), SqlRetiredVersions(database)
    with database.transaction():
        for tenant, name in KEYS:
            documents.put(replace(STATE, tenant=tenant, document_id=name))
            retired.add(tenant, name, "v1", NOW)
    wanted = [("default", "document 1"), ("museum", "document 2"), ("default", "document 3"), ("museum", "nothing")]
    assert documents.current(wanted).keys() == set(wanted[:3])
    retired.remove([(*key, "v1") for key in wanted[:2]] + [(*wanted[2], "v2")])
    assert {key[:2] for key in retired.list(100)} == set(KEYS) - set(wanted[:2])
