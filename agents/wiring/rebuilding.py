"""A rebuild of an index, in a child process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agents.delivery.progress import write_progress
from agents.indexer.indexes import new_index, recipe_of, stores_of
from agents.indexer.work import IndexBuilder
from agents.indexer.writing import IndexWriter
from agents.wiring.children import patiently, settings_of
from agents.wiring.database import database_of
from infra.embedding.embedder import SentenceTransformerEmbedders
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.indexes import SqlIndexes, SqlVectors
from schemas.indexes import DEFAULT_SCOPE


def run(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``arguments``: config, task or None. Gives the fields of IndexRebuilt but for task and cause."""
    settings = settings_of(arguments, folder)
    scope = arguments["task"] or DEFAULT_SCOPE
    write_progress(folder, 0.0, "loading the embedding model")
    embedders = SentenceTransformerEmbedders(settings)
    embedder = embedders.of(settings.embedding.model)
    database = database_of(settings)
    stores = stores_of(settings)
    # The run's own name: a later attempt goes on with the same index.
    index = new_index(
        scope, recipe_of(settings, scope, embedder), embedder.dimension, folder.absolute().name, datetime.now(UTC)
    )
    builder = IndexBuilder(
        writer=IndexWriter(embedders, stores, SqlVectors(database), _now),
        documents=SqlDocuments(database),
        indexes=SqlIndexes(database),
        retired=SqlRetiredVersions(database),
        transaction=database.transaction,
        now=_now,
        folder=folder,
        tell=lambda done, text: write_progress(folder, done, text),
    )
    built = patiently(lambda: builder.build(index))
    stores.close()
    return {
        "index_id": built.index.index_id,
        "embedding_model": built.index.recipe.embedding_model,
        "chunk_tokens": built.index.recipe.chunk_tokens,
        "overlap_tokens": built.index.recipe.overlap_tokens,
        "documents": built.documents,
        "chunks": built.chunks,
    }


def _now() -> datetime:
    return datetime.now(UTC)
