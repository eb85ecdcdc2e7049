"""Exact dense, text and hybrid search of a collection in memory: the reference for a search engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agents.indexer.chunks import split_document, text_to_embed
from benchmarks.bm25 import Bm25, fuse
from benchmarks.retrieval_data import Document
from schemas.questions import SearchMode
from schemas.retrieval import Chunk, Hit
from schemas.words import content_words


class Embedder(Protocol):
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...

    def token_spans(self, text: str) -> list[tuple[int, int]]: ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How documents are split into chunks, what BM25 reads, and how the two rankings are fused."""

    chunk_tokens: int = 220
    overlap_tokens: int = 30
    headed: bool = True
    """Whether BM25 reads title, heading and text, as the embedding model does, or only the text."""
    function_words: bool = False
    """Whether the question's function words are searched for too."""
    k1: float = 1.5
    b: float = 0.75
    depth: int = 50
    """How many chunks of each ranking are fused."""
    constant: float = 10.0
    weights: Mapping[str, float] = field(default_factory=lambda: {"dense": 1.0, "text": 1.0})


class CachedEmbedder:
    """An embedder that stores the embedding of every text in one file, and computes it once."""

    def __init__(self, embedder: Embedder, path: Path) -> None:
        self._embedder = embedder
        self._path = path
        self._known: dict[str, NDArray[np.float32]] = {}
        if path.is_file():
            with np.load(path) as kept:
                self._known = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        unknown = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if unknown:
            self._known |= zip(unknown, self._embedder.embed(list(unknown.values())), strict=True)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part = self._path.with_name(f"part-{self._path.name}")
            np.savez(part, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))
            part.replace(self._path)
        return np.stack([self._known[key] for key in keys])

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return self._embedder.token_spans(text)


def chunk_documents(documents: Sequence[Document], embedder: Embedder, recipe: Recipe) -> list[Chunk]:
    """Returns the chunks of all documents, in order."""
    return [
        Chunk(
            chunk_id=f"{document.document_id}#{ordinal}",
            tenant="benchmark",
            document_id=document.document_id,
            version="1",
            ordinal=ordinal,
            text=text,
            title=document.title,
            heading=document.heading,
        )
        for document in documents
        for ordinal, text in enumerate(
            split_document(
                document.text,
                embedder.token_spans(document.text),
                max_tokens=recipe.chunk_tokens,
                overlap_tokens=recipe.overlap_tokens,
            )
        )
    ]


class BruteForce:
    """Searches chunks in memory. Their vectors have shape (chunks, dimension) and unit length."""

    def __init__(self, chunks: Sequence[Chunk], embedder: Embedder, recipe: Recipe) -> None:
        self._chunks = chunks
        self._embedder = embedder
        self._recipe = recipe
        self._vectors = embedder.embed([text_to_embed(chunk) for chunk in chunks])
        texts = [text_to_embed(chunk) if recipe.headed else chunk.text for chunk in chunks]
        self._bm25 = Bm25(texts, k1=recipe.k1, b=recipe.b)

    def search(self, mode: SearchMode, queries: Sequence[str]) -> list[list[Hit]]:
        """Returns the hits of each query, best first. A hit's score is its cosine in every mode. Satisfies Search."""
        cosines = self._embedder.embed(queries) @ self._vectors.T
        found = []
        for query, near in zip(queries, cosines, strict=True):
            rankings = {}
            if mode != "text":
                rankings["dense"] = best(near, self._recipe.depth)
            if mode != "dense":
                asked = query if self._recipe.function_words else " ".join(content_words(query))
                rankings["text"] = best(self._bm25.scores(asked), self._recipe.depth, above=0.0)
            places = fuse(
                list(rankings.values()),
                [self._recipe.weights[each] for each in rankings],
                constant=self._recipe.constant,
            )
            found.append([Hit(chunk=self._chunks[place], score=float(near[place])) for place in places])
        return found


def best(scores: NDArray[np.floating], depth: int, above: float = -np.inf) -> list[int]:
    """Returns the places of the highest scores above a bound, best first, at most ``depth``. Ties are in order."""
    order = np.argsort(-scores, kind="stable")[:depth]
    return [int(place) for place in order if scores[place] > above]
