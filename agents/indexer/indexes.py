"""What the indexer, the loader, a rebuild and the answerer share: the recipes that the settings ask for, and stores."""

from __future__ import annotations

from datetime import UTC, datetime

from agents.indexer.ports import Embedder
from infra.milvus.stores import MilvusStores
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments
from infra.sql.indexes import SqlIndexes
from schemas.envelope import derived_id
from schemas.errors import ConfigurationError
from schemas.indexes import DEFAULT_SCOPE, Index, Recipe

CONTEXT_TOKENS = 48
"""Left free in what the embedding model reads, for the title and the headings before each chunk."""


def recipe_of(settings: Settings, scope: str, embedder: Embedder) -> Recipe:
    """What the settings ask for. Raises ConfigurationError when the overlap is as long as a chunk."""
    return asked_recipe(settings, scope, embedder.model, embedder.max_tokens)


def asked_recipe(settings: Settings, scope: str, model: str, max_tokens: int) -> Recipe:
    """The same, for a model that reads so many tokens; nothing is loaded."""
    task = settings.tasks.get(scope)
    tokens = (task.chunk_tokens if task else None) or settings.indexer.chunk_tokens
    tokens = min(tokens, max_tokens - CONTEXT_TOKENS)
    own = task.overlap_tokens if task else None
    overlap = settings.indexer.overlap_tokens if own is None else own
    if overlap >= tokens:
        raise ConfigurationError(
            f"overlap_tokens is {overlap}, as long as a chunk of {tokens} tokens: lower it in "
            f"{f'[tasks.{scope}]' if own is not None else '[indexer]'}"
        )
    return Recipe(embedding_model=model, chunk_tokens=tokens, overlap_tokens=overlap)


def own_scopes(settings: Settings) -> list[str]:
    """The tasks that have an index of their own."""
    return [task.name for task in settings.tasks.values() if task.retrieval and task.chunk_tokens is not None]


def stores_of(settings: Settings, *, make: bool = True) -> MilvusStores:
    """Connects nothing yet. ``make``: false where indexes are only read, so that a dropped one does not come back."""
    token = settings.milvus.token
    return MilvusStores(settings.milvus_uri(), token.get_secret_value() if token else None, make=make)


def new_index(scope: str, recipe: Recipe, dimension: int, name: str, at: datetime) -> Index:
    """``name``: what the id is made from; another name is another collection."""
    return Index(
        index_id=derived_id("index", scope, name).replace("-", "")[:16],
        scope=scope,
        recipe=recipe,
        dimension=dimension,
        state="building",
        created_at=at,
    )


def ensure_indexes(settings: Settings, database: Database, embedder: Embedder, dimension: int) -> list[Index]:
    """Adds what can serve at once, because there are no documents yet; gives what is active then.

    The index of a task that asks for none of its own any more is retired, so that it uses the shared one.
    """
    indexes = SqlIndexes(database)
    with database.transaction():
        indexes.hold()
        scopes = [DEFAULT_SCOPE, *own_scopes(settings)]
        for index in indexes.active():
            if index.scope not in scopes:
                indexes.retire(index.index_id)
        there = {index.scope for index in indexes.active()}
        documents, _ = SqlDocuments(database).totals()
        for scope in scopes:
            if scope not in there and not documents:
                at = datetime.now(UTC)
                index = new_index(scope, recipe_of(settings, scope, embedder), dimension, at.isoformat(), at)
                indexes.add(index)
                indexes.serve(index.index_id, at)
        return indexes.active()
