"""What the indexer needs: embedding models, vector stores, and the tables of documents and indexes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.documents import DocumentSubmitted
from schemas.features import DocumentState
from schemas.indexes import Index
from schemas.retrieval import Chunk

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """An embedding model."""

    @property
    def model(self) -> str:
        """Name, as it is written beside each vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest input in tokens, special ones not counted."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit-length embeddings, shape (texts, dimension). Sorts by length inside; order is kept."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """The (start, end) character offsets of each token of the text, special tokens left out."""
        ...


class HtmlReader(Protocol):
    """Converts HTML to Markdown."""

    def __call__(self, html: str) -> tuple[str, str | None]:
        """The page's text as Markdown, and the text of its title element; raises nothing, whatever the HTML."""
        ...


class VectorStore(Protocol):
    """Chunks and their embeddings, searchable."""

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Writes or overwrites by chunk id; searchable once this returns. Raises Unavailable."""
        ...

    def delete(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Removes the chunks of (tenant, document_id, version); harmless when there are none. Raises Unavailable."""
        ...


class Embedders(Protocol):
    """The embedding models of the indexes."""

    def of(self, model: str) -> Embedder:
        """Loads it at the first call, which takes seconds. Raises ModelMissing."""
        ...


class VectorStores(Protocol):
    """The collections of the indexes."""

    def of(self, index: Index) -> VectorStore:
        """An index's collection, made where there is none. Raises Unavailable."""
        ...


class Indexes(Protocol):
    """The table of indexes."""

    def active(self) -> list[Index]:
        """Those that are building or serving, by id. Inside a transaction they stay so until it ends."""
        ...


class KeptVectors(Protocol):
    """Embeddings of texts that were embedded before, by model and by the hash of the text."""

    def find(self, model: str, hashes: Sequence[str], at: datetime) -> dict[str, Vectors]:
        """Those that are kept, shape (dimension,) each."""
        ...

    def put(self, model: str, made: Mapping[str, Vectors], at: datetime) -> None: ...

    def prune(self, before: datetime) -> int:
        """Forgets those that were not used since."""
        ...


class Documents(Protocol):
    """The table of documents and their current versions."""

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """By (tenant, document_id); withdrawn ones included."""
        ...

    def put(self, state: DocumentState, content: DocumentSubmitted | None = None) -> None:
        """Inside a transaction. ``content``: what the version was made from, where it is another than before."""
        ...


class RetiredVersions(Protocol):
    """Versions whose chunks must still be deleted from the vector store."""

    def add(self, tenant: str, document_id: str, version: str, at: datetime) -> None:
        """Inside a transaction; adding twice is adding once."""
        ...

    def list(self, limit: int) -> list[tuple[str, str, str]]:
        """(tenant, document_id, version), oldest first."""
        ...

    def remove(self, versions: Sequence[tuple[str, str, str]]) -> None: ...
