"""Which indexes an indexer makes when it starts, and by which recipes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.indexer.indexes import ensure_indexes
from agents.wiring.indexer import configured_indexes
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments
from infra.sql.indexes import SqlIndexes
from schemas.indexes import Recipe
from schemas.policies import IndexerSettings
from schemas.tasks import Task
from tests.fixtures.indexes import MADE_AT
from tests.infra.sql.test_indexes import state

OWN = Task(name="own", instruction="x", retrieval=True, chunk_tokens=64)
SHARING = Task(name="sharing", instruction="x", retrieval=True)


@pytest.fixture
def database(migrated_sqlite_url: str) -> Iterator[Database]:
    opened = Database(migrated_sqlite_url)
    yield opened
    opened.close()


def settings(home: Path, *tasks: Task) -> Settings:
    return Settings(home=home, tasks={task.name: task for task in tasks}, indexer=IndexerSettings(chunk_tokens=220))


def recipes(settings: Settings, database: Database) -> dict[str, Recipe]:
    active = ensure_indexes(
        configured_indexes(settings),
        model="memory",
        max_tokens=254,
        dimension=64,
        indexes=SqlIndexes(database),
        documents=SqlDocuments(database),
        transaction=database.transaction,
        now=lambda: MADE_AT,
    )
    assert {index.state for index in active} <= {"serving"}
    return {index.scope: index.recipe for index in active}


def recipe(chunk_tokens: int) -> Recipe:
    return Recipe(embedding_model="memory", chunk_tokens=chunk_tokens, overlap_tokens=30)


def test_the_first_start_makes_the_shared_index_and_those_of_tasks(database: Database, tmp_path: Path) -> None:
    first = recipes(settings(tmp_path, OWN, SHARING), database)
    # The model reads 254 tokens, of which 48 are left for what stands above a chunk.
    assert first == {"": recipe(206), "own": recipe(64)}
    assert recipes(settings(tmp_path, OWN), database) == first


def test_once_there_are_documents_only_a_rebuild_makes_an_index(database: Database, tmp_path: Path) -> None:
    recipes(settings(tmp_path), database)
    SqlDocuments(database).put(state("d"))
    assert recipes(settings(tmp_path, OWN), database).keys() == {""}


def test_a_task_that_asks_for_no_index_of_its_own_any_more_shares_the_others(
    database: Database, tmp_path: Path
) -> None:
    recipes(settings(tmp_path, OWN), database)
    SqlDocuments(database).put(state("d"))
    assert recipes(settings(tmp_path, OWN.model_copy(update={"chunk_tokens": None})), database).keys() == {""}
