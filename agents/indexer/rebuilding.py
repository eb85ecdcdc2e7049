"""Builds an index anew from what documents were made from, while live events go to the old one and to it.

From the moment the new index stands in the table, every worker writes to both, or its transaction fails and it tries
again. So the builder need only write the documents that stood there at that moment; what it finds changed meanwhile
was written by whoever changed it, and what it wrote of such a document itself is retired.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agents.errors import EverlearnError
from agents.indexer.ports import Documents, Indexes, RetiredVersions
from agents.indexer.versions import Key
from agents.indexer.writing import IndexWriter, Version
from schemas.documents import DocumentSubmitted
from schemas.features import DocumentState
from schemas.indexes import DEFAULT_SCOPE, Index

DOCUMENTS_AT_ONCE = 128


class StandingDocuments(Documents, Protocol):
    """The table of documents, to be walked through."""

    def page(self, after: Key | None, limit: int) -> list[tuple[DocumentState, DocumentSubmitted | None]]:
        """Documents that are not withdrawn, with what they were made from, by (tenant, document_id)."""
        ...

    def totals(self) -> tuple[int, int]:
        """How many documents are not withdrawn, and their chunks."""
        ...

    def count_next(self, counts: dict[Key, tuple[str, int]]) -> None:
        """Notes by key, for that version, how many chunks a document has in the index that is being built."""
        ...

    def adopt_counts(self, embedding_model: str) -> None:
        """Inside a transaction: the index that was being built serves now."""
        ...


class ChangingIndexes(Indexes, Protocol):
    """The table of indexes, to be changed."""

    def all(self) -> list[Index]: ...

    def hold(self) -> None:
        """Inside a transaction: nobody else changes an index, or commits documents to one, until it ends."""
        ...

    def add(self, index: Index) -> None: ...

    def serve(self, index_id: str, at: datetime) -> None: ...

    def retire(self, index_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came of it: documents and chunks in the new index when it began to serve."""

    documents: int
    chunks: int


class IndexBuilder:
    """One rebuild. ``folder`` keeps its place, so that a later attempt goes on there."""

    def __init__(
        self,
        *,
        writer: IndexWriter,
        documents: StandingDocuments,
        indexes: ChangingIndexes,
        retired: RetiredVersions,
        transaction: Callable[[], AbstractContextManager[None]],
        now: Callable[[], datetime],
        folder: Path,
        tell: Callable[[float, str], None],
    ) -> None:
        self._writer, self._documents, self._indexes, self._retired = writer, documents, indexes, retired
        self._transaction, self._now, self._place, self._tell = transaction, now, folder / "place.json", tell

    def build(self, index: Index) -> Built:
        """Adds the index, fills it and lets it serve. Raises Unavailable; it may be called again then."""
        with self._transaction():
            self._indexes.hold()
            for other in self._indexes.active():
                # Of a rebuild that was given up: two that are being built would both be written to for ever.
                if other.scope == index.scope and other.state == "building" and other.index_id != index.index_id:
                    self._indexes.retire(other.index_id)
            self._indexes.add(index)
        state = next((each.state for each in self._indexes.all() if each.index_id == index.index_id), "retired")
        if state == "retired":
            raise EverlearnError("another rebuild of the same index was begun since: this one is given up")
        after, documents, chunks = self._read()
        if state == "building":
            documents, chunks = self._fill(index, after, documents, chunks)
            self._serve(index)
        return Built(documents=documents, chunks=chunks)

    def _fill(self, index: Index, after: Key | None, documents: int, chunks: int) -> tuple[int, int]:
        while page := self._documents.page(after, DOCUMENTS_AT_ONCE):
            total = max(1, self._documents.totals()[0])
            self._tell(min(0.99, documents / total), f"{documents:,} of {total:,} documents")
            lost = [state.document_id for state, content in page if content is None]
            if lost:
                raise EverlearnError(
                    f"of document {lost[0]!r} nothing is kept to build an index from: publish it again, then rebuild"
                )
            versions = [Version(content, state.version) for state, content in page if content is not None]
            counts = self._writer.write(index, versions)
            self._settle(index, versions, counts)
            documents, chunks = documents + len(page), chunks + sum(counts.values())
            after = versions[-1].key
            self._write(after, documents, chunks)
        return documents, chunks

    def _settle(self, index: Index, versions: list[Version], counts: dict[Key, int]) -> None:
        """Retires what was replaced while it was written, and notes the sizes of the others."""
        with self._transaction():
            standing = self._documents.current([version.key for version in versions])
            for version in versions:
                if standing[version.key].version != version.name:
                    self._retired.add(*version.key, version.name, self._now())
            if index.scope == DEFAULT_SCOPE:
                self._documents.count_next({each.key: (each.name, counts[each.key]) for each in versions})

    def _serve(self, index: Index) -> None:
        self._tell(0.99, "switching over")
        with self._transaction():
            self._indexes.hold()
            self._indexes.serve(index.index_id, self._now())
            if index.scope == DEFAULT_SCOPE:
                self._documents.adopt_counts(index.recipe.embedding_model)

    def _read(self) -> tuple[Key | None, int, int]:
        if not self._place.is_file():
            return None, 0, 0
        kept = json.loads(self._place.read_text(encoding="utf-8"))
        return (kept["after"][0], kept["after"][1]), kept["documents"], kept["chunks"]

    def _write(self, after: Key, documents: int, chunks: int) -> None:
        unfinished = self._place.with_suffix(".part")
        kept = {"after": after, "documents": documents, "chunks": chunks}
        unfinished.write_text(json.dumps(kept), encoding="utf-8")
        unfinished.replace(self._place)
