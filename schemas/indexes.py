"""Search indexes: each holds chunks of all current documents, made with one recipe, in one collection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

IndexState = Literal["building", "serving", "retired"]
DEFAULT_SCOPE = ""
"""The scope of the index for all tasks that have no index of their own."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How text becomes vectors: the embedding model, and the longest chunk and the overlap, both in its tokens."""

    embedding_model: str
    chunk_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """A search index. Every document event is applied to all indexes that are building or serving.

    ``index_id`` is also the collection's name, so a rebuilt index shares nothing with the old one, even if the recipe
    is the same. ``scope``: the task that the index is for, or DEFAULT_SCOPE. At most one index of a scope serves.
    """

    index_id: str
    scope: str
    recipe: Recipe
    dimension: int
    state: IndexState
    created_at: datetime
    served_at: datetime | None = None
