"""The in-memory twin of Milvus: chunks and vectors in a dictionary, searched by comparing with every one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from schemas.filters import Filter, matches
from schemas.retrieval import Chunk, Hit, headings_above


class MemoryChunks:
    """Stores and searches chunks."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Chunk, NDArray[np.float32]]] = {}
        self._lock = Lock()

    @property
    def chunks(self) -> dict[str, Chunk]:
        """The stored chunks by id."""
        with self._lock:
            return {chunk_id: chunk for chunk_id, (chunk, _) in self._rows.items()}

    def upsert(self, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        with self._lock:
            for chunk, vector in zip(chunks, vectors, strict=True):
                self._rows[chunk.chunk_id] = (chunk, np.asarray(vector, dtype=np.float32))

    def delete(self, versions: Sequence[tuple[str, str, str]]) -> None:
        gone = {version for _, _, version in versions}
        with self._lock:
            self._rows = {key: row for key, row in self._rows.items() if row[0].version not in gone}

    def search(
        self, vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        rows = self._visible(tenant, where)
        return [_nearest(rows, np.asarray(vector, dtype=np.float32), k) for vector in vectors]

    def search_text(
        self, texts: Sequence[str], vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        """Ranks by the number of shared words in place of BM25."""
        rows = self._visible(tenant, where)
        return [_alike(rows, text, np.asarray(vector), k) for text, vector in zip(texts, vectors, strict=True)]

    def count(self) -> int:
        return len(self.chunks)

    def _visible(self, tenant: str, where: Filter | None) -> list[tuple[Chunk, NDArray[np.float32]]]:
        with self._lock:
            rows = [row for row in self._rows.values() if row[0].tenant == tenant]
        return [row for row in rows if where is None or matches(where, row[0].metadata)]

    def versions(self, tenant: str, document_id: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for chunk in self.chunks.values():
            if (chunk.tenant, chunk.document_id) == (tenant, document_id):
                counts[chunk.version] = counts.get(chunk.version, 0) + 1
        return counts


def _nearest(rows: Sequence[tuple[Chunk, NDArray[np.float32]]], query: NDArray[np.float32], k: int) -> list[Hit]:
    hits = [Hit(chunk=chunk, score=_cosine(query, vector)) for chunk, vector in rows]
    return sorted(hits, key=lambda hit: (-hit.score, hit.chunk.chunk_id))[:k]


def _alike(
    rows: Sequence[tuple[Chunk, NDArray[np.float32]]], text: str, query: NDArray[np.float32], k: int
) -> list[Hit]:
    wanted = _words(text)
    shared = [
        (len(wanted & _words(" ".join([*headings_above(chunk.title, chunk.heading), chunk.text]))), chunk, vector)
        for chunk, vector in rows
    ]
    ranked = sorted((row for row in shared if row[0]), key=lambda row: (-row[0], row[1].chunk_id))
    return [Hit(chunk=chunk, score=_cosine(query, vector)) for _, chunk, vector in ranked[:k]]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _cosine(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(np.dot(left, right)) / norm if norm else 0.0
