"""The indexer's worker with its real parts, which load when it starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agents.wiring.database import database_of
from agents.wiring.indexer import build
from infra.settings import Settings
from infra.sql.documents import SqlDocuments
from infra.sql.indexes import SqlIndexes
from schemas.errors import ConfigurationError, Unavailable
from schemas.policies import IndexerSettings, MilvusSettings, ModelSettings, SqlSettings
from tests.agents.indexer.room import submitted
from tests.fixtures.indexes import index


async def test_a_worker_indexes_into_the_database_that_its_journal_uses(
    milvus_uri: str, migrated_sqlite_url: str, models_folder: Path, tmp_path: Path
) -> None:
    settings = Settings(
        home=tmp_path,
        milvus=MilvusSettings(uri=milvus_uri),
        sql=SqlSettings(url=migrated_sqlite_url),
        model=ModelSettings(folder=models_folder),
    )
    worker = build(settings)
    assert worker.close is not None
    event = submitted("a", 1, "A text about apples.", document_id="wired")
    (outcome,) = await worker.dispatch()([event])
    assert outcome.effect is not None
    database = database_of(settings)
    with database.transaction():
        outcome.effect()
    assert ("default", "wired") in SqlDocuments(database).current([("default", "wired")])
    assert [each.name for each in worker.cleaners] == [
        "replaced versions",
        "replaced indexes",
        "stray collections",
        "vectors",
    ]
    assert [each.clean(event.context.time) for each in worker.cleaners] == [0, 0, 0, 0]
    worker.close()
    database.close()


async def test_an_index_whose_model_is_missing_is_named_and_the_worker_starts(
    milvus_uri: str, migrated_sqlite_url: str, models_folder: Path, tmp_path: Path, unique_index: str
) -> None:
    settings = Settings(
        home=tmp_path,
        milvus=MilvusSettings(uri=milvus_uri),
        sql=SqlSettings(url=migrated_sqlite_url),
        model=ModelSettings(folder=models_folder),
    )
    database = database_of(settings)
    indexes = SqlIndexes(database)
    with database.transaction():
        indexes.hold()
        indexes.add(index(unique_index, model="/no/such/model"))
    with capture_logs() as logs:
        worker = build(settings)
    assert [line["event"] for line in logs] == ["documents wait: run 'everlearn index rebuild'"]
    assert "/no/such/model" in logs[0]["problem"]
    assert worker.close is not None
    worker.close()
    database.close()


def test_without_an_embedded_milvus_the_start_says_how_to_get_one_and_can_be_repeated(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="everlearn up"):
            build(Settings(home=tmp_path))


def test_an_overlap_as_long_as_a_chunk_is_a_configuration_error(
    tmp_path: Path, migrated_sqlite_url: str, models_folder: Path
) -> None:
    settings = Settings(
        home=tmp_path,
        sql=SqlSettings(url=migrated_sqlite_url),
        milvus=MilvusSettings(uri="http://127.0.0.1:1"),
        indexer=IndexerSettings(chunk_tokens=16, overlap_tokens=16),
        model=ModelSettings(folder=models_folder),
    )
    with pytest.raises(ConfigurationError, match="overlap_tokens"):
        build(settings)
