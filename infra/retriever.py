"""Search over current documents: Milvus says what is near, SQL says which version of a document counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.features import DocumentState
from schemas.retrieval import Hit

FIRST_DEPTH = 8
DEPTH_FACTOR = 4
MAX_DEPTH = 4096
"""Chunks of one tenant that are looked at for one text; Milvus allows 16,384."""


class QueryEmbedder(Protocol):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class ChunkSearch(Protocol):
    def search(self, vectors: NDArray[np.float32], *, tenant: str, k: int) -> list[list[Hit]]: ...


class CurrentVersions(Protocol):
    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]: ...


class MilvusRetriever:
    """Satisfies the answerer's Retriever."""

    def __init__(self, chunks: ChunkSearch, embedder: QueryEmbedder, documents: CurrentVersions) -> None:
        self._chunks = chunks
        self._embedder = embedder
        self._documents = documents

    def search(self, texts: Sequence[str], *, tenant: str, k: int) -> list[list[Hit]]:
        """For each text at most k hits, best first, of current versions and this tenant only. Raises Unavailable.

        Chunks of replaced or withdrawn versions stay in Milvus until they are swept; where they push current ones
        out of the first k, the search goes deeper for those texts, up to MAX_DEPTH.
        """
        results: list[list[Hit]] = [[] for _ in texts]
        if not texts or k < 1:
            return results
        vectors = self._embedder.embed(texts)
        waiting = list(range(len(texts)))
        depth = min(max(k, FIRST_DEPTH), MAX_DEPTH)
        while waiting:
            found = self._chunks.search(vectors[waiting], tenant=tenant, k=depth)
            states = self._current(tenant, found)
            short = []
            for index, hits in zip(waiting, found, strict=True):
                results[index] = [hit for hit in hits if _is_current(hit, states)][:k]
                if len(results[index]) < k and len(hits) >= depth:
                    short.append(index)
            waiting = short if depth < MAX_DEPTH else []
            depth = min(depth * DEPTH_FACTOR, MAX_DEPTH)
        return results

    def _current(self, tenant: str, found: Sequence[Sequence[Hit]]) -> dict[tuple[str, str], DocumentState]:
        keys = sorted({(tenant, hit.chunk.document_id) for hits in found for hit in hits})
        return self._documents.current(keys) if keys else {}


def _is_current(hit: Hit, states: dict[tuple[str, str], DocumentState]) -> bool:
    state = states.get((hit.chunk.tenant, hit.chunk.document_id))
    return state is not None and not state.withdrawn and state.version == hit.chunk.version
