"""What a search index is: chunks of every current document, made by one recipe, in one collection."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

IndexState = Literal["building", "serving", "retired"]
DEFAULT_SCOPE = ""
"""The scope of the index that serves every task which has none of its own."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How text becomes vectors: the embedding model, and the longest chunk and the overlap in its tokens."""

    embedding_model: str
    chunk_tokens: int
    overlap_tokens: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index and what it is for. Every document event is written to all that are building or serving.

    ``index_id`` names the collection too, so that an index built anew by the same recipe shares nothing with the old.
    ``scope``: the task that it is for, or DEFAULT_SCOPE. At most one index of a scope serves.
    """

    index_id: str
    scope: str
    recipe: Recipe
    dimension: int
    state: IndexState
    created_at: datetime
    served_at: datetime | None = None
