"""Decides which indexes there should be and how each is made, and adds the first ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime

from agents.indexer.ports import ChangingIndexes, DocumentTotals
from schemas.envelope import derived_id
from schemas.errors import ConfigurationError
from schemas.indexes import DEFAULT_SCOPE, Index, Recipe
from schemas.tasks import Task

CONTEXT_TOKENS = 48
"""Tokens that are reserved in the embedding model's input for the title and the headings of each chunk."""


@dataclass(frozen=True, kw_only=True)
class ConfiguredIndexes:
    """Which indexes the configuration asks for: a shared one, and one for each task with its own chunk size.

    ``chunk_tokens`` and ``overlap_tokens`` are those of the shared index, and the defaults of the others.
    """

    tasks: Mapping[str, Task]
    chunk_tokens: int
    overlap_tokens: int

    @property
    def own_scopes(self) -> list[str]:
        """The tasks that have an index of their own."""
        return [task.name for task in self.tasks.values() if task.retrieval and task.chunk_tokens is not None]

    @property
    def scopes(self) -> list[str]:
        """The scopes of all indexes, the shared one first."""
        return [DEFAULT_SCOPE, *self.own_scopes]

    def recipe(self, scope: str, model: str, max_tokens: int) -> Recipe:
        """Returns how an index is made with a model that reads ``max_tokens``.

        Raises ConfigurationError when the overlap is as long as a chunk.
        """
        task = self.tasks.get(scope)
        tokens = (task.chunk_tokens if task else None) or self.chunk_tokens
        tokens = min(tokens, max_tokens - CONTEXT_TOKENS)
        own = task.overlap_tokens if task else None
        overlap = self.overlap_tokens if own is None else own
        if overlap >= tokens:
            raise ConfigurationError(
                f"overlap_tokens is {overlap}, as long as a chunk of {tokens} tokens: lower it in "
                f"{f'[tasks.{scope}]' if own is not None else '[indexer]'}"
            )
        return Recipe(embedding_model=model, chunk_tokens=tokens, overlap_tokens=overlap)


def new_index(scope: str, recipe: Recipe, dimension: int, name: str, at: datetime) -> Index:
    """Describes an index that is yet to be built. Its id depends on ``scope`` and ``name`` alone."""
    return Index(
        index_id=derived_id("index", scope, name).replace("-", "")[:16],
        scope=scope,
        recipe=recipe,
        dimension=dimension,
        state="building",
        created_at=at,
    )


def ensure_indexes(
    configured: ConfiguredIndexes,
    *,
    model: str,
    max_tokens: int,
    dimension: int,
    indexes: ChangingIndexes,
    documents: DocumentTotals,
    transaction: Callable[[], AbstractContextManager[None]],
    now: Callable[[], datetime],
) -> list[Index]:
    """Adds the indexes that can serve at once because there are no documents yet, and returns the active ones.

    ``model``, ``max_tokens`` and ``dimension`` are those of the configured embedding model. Retires the index of a task
    that no longer asks for its own, so that the task uses the shared one.
    """
    with transaction():
        indexes.hold()
        for index in indexes.active():
            if index.scope not in configured.scopes:
                indexes.retire(index.index_id)
        existing = {index.scope for index in indexes.active()}
        count, _ = documents.totals()
        for scope in configured.scopes:
            if scope not in existing and not count:
                at = now()
                recipe = configured.recipe(scope, model, max_tokens)
                index = new_index(scope, recipe, dimension, at.isoformat(), at)
                indexes.add(index)
                indexes.serve(index.index_id, at)
        return indexes.active()
