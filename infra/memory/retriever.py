"""The in-memory twin of ``infra.milvus.retriever``: ranks chunks by the words that they share with the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from schemas.errors import Unavailable
from schemas.filters import matches
from schemas.retrieval import Chunk, Hit, Search


class MemoryRetriever:
    """Searches the given chunks. ``calls``: the searches so far. While ``down``, a search raises Unavailable."""

    def __init__(self, chunks: Sequence[Chunk] = ()) -> None:
        self._chunks = [Hit(chunk=chunk, score=0.0) for chunk in chunks]
        self.calls: list[tuple[Search, ...]] = []
        self.down = False

    def search(self, searches: Sequence[Search]) -> list[list[Hit]]:
        self.calls.append(tuple(searches))
        if self.down:
            raise Unavailable("the search cannot be reached: start it")
        return [self._ranked(each.text, self._own(each))[: each.k] for each in searches]

    def _own(self, search: Search) -> list[Hit]:
        own = [hit for hit in self._chunks if hit.chunk.tenant == search.tenant]
        return [hit for hit in own if search.where is None or matches(search.where, hit.chunk.metadata)]

    def _ranked(self, text: str, hits: Sequence[Hit]) -> list[Hit]:
        scored = [replace(hit, score=_likeness(text, hit.chunk.text)) for hit in hits]
        return sorted(scored, key=lambda hit: (-hit.score, hit.chunk.chunk_id))


def _likeness(one: str, other: str) -> float:
    """Returns the share of common words, 0 to 1."""
    first, second = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return len(first & second) / max(1, len(first | second))
