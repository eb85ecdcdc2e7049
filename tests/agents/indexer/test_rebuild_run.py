"""A rebuild as a worker's child process does it: real embedding model, Milvus and SQL."""

from __future__ import annotations

from pathlib import Path

from agents.wiring.database import database_of
from agents.wiring.indexer import build, rebuild
from infra.milvus.stores import MilvusStores
from infra.settings import Settings, load
from infra.sql.documents import SqlDocuments
from infra.sql.indexes import SqlIndexes
from infra.sql.migrate import migrate
from schemas.indexes import Recipe
from tests.agents.indexer.room import LONG, submitted


def configure(home: Path, milvus_uri: str, models: Path, chunk_tokens: int) -> Settings:
    text = f'[milvus]\nuri = "{milvus_uri}"\n[indexer]\nchunk_tokens = {chunk_tokens}\noverlap_tokens = 4\n'
    text += f'[model]\nfolder = "{models}"\n'
    (home / "everlearn.toml").write_text(text)
    return load(home, environ={})


async def test_after_a_rebuild_the_new_recipe_serves_what_the_old_one_did(
    milvus_uri: str, models_folder: Path, tmp_path: Path
) -> None:
    settings = configure(tmp_path, milvus_uri, models_folder, 64)
    migrate(settings.sql_url())
    indexer = build(settings)
    assert indexer.close is not None
    event = submitted("a", 1, LONG, document_id="d")
    [outcome] = await indexer.dispatch()([event])
    database = database_of(settings)
    assert outcome.effect is not None
    with database.transaction():
        list(outcome.effect())
    indexer.close()
    _, before = SqlDocuments(database).totals()

    settings = configure(tmp_path, milvus_uri, models_folder, 24)
    folder = tmp_path / "work" / "runs" / "r1"
    folder.mkdir(parents=True)
    told = rebuild({"config": None, "task": None}, folder)

    [index] = SqlIndexes(database).active()
    documents, chunks = SqlDocuments(database).totals()
    assert index.recipe == Recipe(embedding_model="all-MiniLM-L6-v2", chunk_tokens=24, overlap_tokens=4)
    assert (index.state, documents, chunks > before) == ("serving", 1, True)
    assert told == {"index_id": index.index_id, "documents": 1, "chunks": chunks, **vars(index.recipe)}
    stores = MilvusStores.from_settings(settings)
    assert stores.of(index).count() == chunks
    assert sorted(each.state for each in SqlIndexes(database).all()) == ["retired", "serving"]
    assert rebuild({"config": None, "task": None}, folder) == told  # a result that could not be written down
    for each in SqlIndexes(database).all():
        stores.drop(each)
    stores.close()
    database.close()
