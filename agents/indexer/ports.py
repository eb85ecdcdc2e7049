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
        """The model's name, as it is stored beside each vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest input in tokens, without special tokens."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns unit-length embeddings in the order of the texts, shape (texts, dimension)."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Returns the (start, end) character offsets of the text's tokens, without special tokens."""
        ...


class HtmlReader(Protocol):
    """Converts HTML to Markdown."""

    def __call__(self, html: str) -> tuple[str, str | None]:
        """Returns the page's text as Markdown, and the text of its title element; never raises."""
        ...


class Embedders(Protocol):
    """Finds the embedding model of an index."""

    def of(self, model: str) -> Embedder:
        """Loads the model at the first call, which takes seconds. Raises ModelMissing."""
        ...


class VectorStore(Protocol):
    """Stores chunks and their embeddings so that they can be searched."""

    def upsert(self, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Writes or overwrites by chunk id. The chunks are searchable once this returns. Raises Unavailable."""
        ...

    def delete(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Deletes the chunks of (tenant, document_id, version), if there are any. Raises Unavailable."""
        ...


class VectorStores(Protocol):
    """Finds the collection of an index."""

    def of(self, index: Index) -> VectorStore:
        """Returns the collection, and makes it if there is none. Raises Unavailable."""
        ...


class CollectionStores(VectorStores, Protocol):
    """Also deletes collections."""

    def drop(self, index: Index) -> None:
        """Deletes the index's collection, if there is one. Raises Unavailable."""
        ...


class StrayCollections(Protocol):
    """Collections of a vector store that belongs to this home alone."""

    def strays(self, indexes: Sequence[Index]) -> Mapping[str, bool]:
        """Returns the collections that belong to none of the indexes; True for those that earlier versions wrote.

        Raises Unavailable.
        """
        ...

    def drop_stray(self, name: str) -> None:
        """Deletes a collection. Raises Unavailable."""
        ...


class Indexes(Protocol):
    """The table of indexes."""

    def active(self) -> list[Index]:
        """Returns the indexes that are building or serving, by id. A transaction keeps them unchanged until it ends."""
        ...


class ChangingIndexes(Indexes, Protocol):
    """The table of indexes, for those who change it inside a transaction."""

    def hold(self) -> None:
        """Locks the table: until the transaction ends, nobody else changes an index or commits documents to one."""
        ...

    def add(self, index: Index) -> None: ...

    def serve(self, index_id: str, at: datetime) -> None:
        """Lets the index serve its scope, and retires the one that served it before."""
        ...

    def retire(self, index_id: str) -> None: ...


class KnownIndexes(Indexes, Protocol):
    """The table of indexes, retired ones included."""

    def all(self) -> list[Index]: ...

    def remove(self, index_id: str) -> None:
        """Removes an index whose collection is gone."""
        ...


class KeptVectors(Protocol):
    """Embeddings of texts that were embedded before, by model and by the hash of the text."""

    def find(self, model: str, hashes: Sequence[str], at: datetime) -> dict[str, Vectors]:
        """Returns the vectors that are kept, shape (dimension,) each, by hash; remembers that they were used."""
        ...

    def put(self, model: str, made: Mapping[str, Vectors], at: datetime) -> None: ...

    def prune(self, before: datetime) -> int:
        """Deletes the vectors that were not used since."""
        ...


class Documents(Protocol):
    """The table of documents and their current versions."""

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """Returns rows by (tenant, document_id), withdrawn documents included."""
        ...

    def put(self, state: DocumentState, content: DocumentSubmitted | None = None) -> None:
        """Inside a transaction: writes a state. ``content``: what the version was made from, None if unchanged."""
        ...


class DocumentTotals(Protocol):
    """Counts the table of documents."""

    def totals(self) -> tuple[int, int]:
        """Returns the numbers of documents that are not withdrawn, and of their chunks."""
        ...


class RebuildDocuments(Documents, DocumentTotals, Protocol):
    """The table of documents, for a rebuild."""

    def page(self, after: tuple[str, str] | None, limit: int) -> list[tuple[DocumentState, DocumentSubmitted | None]]:
        """Returns documents that are not withdrawn, with what they were made from, by (tenant, document_id)."""
        ...

    def count_next(self, counts: dict[tuple[str, str], tuple[str, int]]) -> None:
        """Stores how many chunks a document's version has in the index that is being built."""
        ...

    def adopt_counts(self, embedding_model: str) -> None:
        """Inside a transaction: makes the counts of the index that was being built the current ones."""
        ...


class RetiredVersions(Protocol):
    """Versions whose chunks must still be deleted from the vector stores."""

    def add(self, tenant: str, document_id: str, version: str, at: datetime) -> None:
        """Inside a transaction: adds a version. Adding it twice has no further effect."""
        ...

    def list(self, limit: int) -> list[tuple[str, str, str]]:
        """Returns (tenant, document_id, version), oldest first."""
        ...

    def remove(self, versions: Sequence[tuple[str, str, str]]) -> None: ...
