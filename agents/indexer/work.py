"""Builds an index anew from what documents were made from, while live events go to the old one and to it.

From the moment the new index stands in the table, every worker writes to both, or its transaction fails and it tries
again. So the builder need only write the documents that stood there at that moment; what it finds changed meanwhile
was written by whoever changed it, and what it wrote of such a document itself is retired.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agents.indexer.ports import Documents, Indexes, RetiredVersions
from agents.indexer.versions import Key
from agents.indexer.writing import IndexWriter, Version
from schemas.documents import DocumentSubmitted
from schemas.errors import EverlearnError
from schemas.features import DocumentState
from schemas.indexes import DEFAULT_SCOPE, Index

DOCUMENTS_AT_ONCE = 128
Written = tuple[str, str, str]
"""Tenant, document id and version."""


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

    def hold(self) -> None:
        """Inside a transaction: nobody else changes an index, or commits documents to one, until it ends."""
        ...

    def add(self, index: Index) -> None: ...

    def serve(self, index_id: str, at: datetime) -> None: ...

    def retire(self, index_id: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Place:
    """How far a rebuild is: behind which document, what was written so far, and which versions are being written."""

    after: Key | None = None
    documents: int = 0
    chunks: int = 0
    writing: tuple[Written, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Built:
    """What came of it: the index as it stands, and the documents and chunks that were written to fill it."""

    index: Index
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
        # What an earlier attempt has begun is finished by its own recipe, whatever the settings say by now.
        begun = self._standing(index)
        place = self._read()
        if begun.state == "building":
            self._retire_replaced(place.writing)
            place = self._fill(begun, place)
            self._serve(begun)
        return Built(index=begun, documents=place.documents, chunks=place.chunks)

    def _fill(self, index: Index, place: Place) -> Place:
        while page := self._documents.page(place.after, DOCUMENTS_AT_ONCE):
            total = max(1, self._documents.totals()[0])
            self._tell(min(0.99, place.documents / total), f"{place.documents:,} of {total:,} documents")
            lost = [state.document_id for state, content in page if content is None]
            if lost:
                raise EverlearnError(
                    f"of document {lost[0]!r} nothing is kept to build an index from: withdraw it, publish it again, "
                    "then rebuild"
                )
            versions = [Version(content, state.version) for state, content in page if content is not None]
            # Noted before: what is replaced while this process dies is nowhere else known to be in the new index.
            self._write(replace(place, writing=tuple((*each.key, each.name) for each in versions)))
            counts = self._writer.write(index, versions)
            self._settle(index, versions, counts)
            place = Place(
                after=versions[-1].key,
                documents=place.documents + len(page),
                chunks=place.chunks + sum(counts.values()),
            )
            self._write(place)
        return place

    def _settle(self, index: Index, versions: list[Version], counts: dict[Key, int]) -> None:
        """Retires what was replaced while it was written, and notes the sizes of the others."""
        with self._transaction():
            self._retire_replaced([(*version.key, version.name) for version in versions])
            if index.scope == DEFAULT_SCOPE:
                self._documents.count_next({each.key: (each.name, counts[each.key]) for each in versions})

    def _retire_replaced(self, written: Sequence[Written]) -> None:
        with self._transaction():
            standing = self._documents.current([(tenant, document_id) for tenant, document_id, _ in written])
            for tenant, document_id, version in written:
                state = standing.get((tenant, document_id))
                if state is None or state.version != version:
                    self._retired.add(tenant, document_id, version, self._now())

    def _serve(self, index: Index) -> None:
        self._tell(0.99, "switching over")
        with self._transaction():
            self._indexes.hold()
            self._standing(index)
            self._indexes.serve(index.index_id, self._now())
            if index.scope == DEFAULT_SCOPE:
                self._documents.adopt_counts(index.recipe.embedding_model)

    def _standing(self, index: Index) -> Index:
        found = next((each for each in self._indexes.active() if each.index_id == index.index_id), None)
        if found is None:
            raise EverlearnError("another rebuild of the same index was begun since: this one is given up")
        return found

    def _read(self) -> Place:
        if not self._place.is_file():
            return Place()
        kept = json.loads(self._place.read_text(encoding="utf-8"))
        return Place(
            after=None if kept["after"] is None else (kept["after"][0], kept["after"][1]),
            documents=kept["documents"],
            chunks=kept["chunks"],
            writing=tuple((tenant, document_id, version) for tenant, document_id, version in kept["writing"]),
        )

    def _write(self, place: Place) -> None:
        unfinished = self._place.with_suffix(".part")
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(vars(place), file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave an empty file under the final name
        unfinished.replace(self._place)
