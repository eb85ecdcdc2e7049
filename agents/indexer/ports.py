"""What the indexer needs: an embedding model, a vector store, and the table of documents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.features import DocumentState
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


class VectorStore(Protocol):
    """Chunks and their embeddings, searchable."""

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Writes or overwrites by chunk id; searchable once this returns. Raises Unavailable."""
        ...

    def delete(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Removes the chunks of (tenant, document_id, version); harmless when there are none. Raises Unavailable."""
        ...


class Documents(Protocol):
    """The table of documents and their current versions."""

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """By (tenant, document_id); withdrawn ones included."""
        ...

    def put(self, state: DocumentState) -> None:
        """Inside a transaction."""
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
