"""Rebuilds an index in a run's child process, from what documents were made from, while live events go to both indexes.

From the moment the new index is in the table, every worker writes to both indexes, or its transaction fails and it
tries again. So the rebuild only has to write the documents that were in the table at that moment. A document that
changes during the rebuild is written by the worker that changed it; the rebuild retires its own version of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from agents.delivery.atomic_write import write_atomically
from agents.indexer.ports import ChangingIndexes, RebuildDocuments, RetiredVersions
from agents.indexer.versions import Key
from agents.indexer.writing import IndexWriter, Version
from schemas.errors import EverlearnError
from schemas.event import JsonObject
from schemas.indexes import DEFAULT_SCOPE, Index

DOCUMENTS_AT_ONCE = 128
WrittenVersion = tuple[str, str, str]
"""Tenant, document id and version."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """How far a rebuild is.

    ``after``: the last document that is done. ``documents`` and ``chunks``: how many were written. ``writing``: the
    versions that are being written now.
    """

    after: Key | None = None
    documents: int = 0
    chunks: int = 0
    writing: tuple[WrittenVersion, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Built:
    """A finished rebuild: the index, and how many documents and chunks were written to fill it."""

    index: Index
    documents: int
    chunks: int

    def result(self) -> JsonObject:
        """Returns the fields of IndexRebuilt that the run itself knows."""
        return {
            "index_id": self.index.index_id,
            "embedding_model": self.index.recipe.embedding_model,
            "chunk_tokens": self.index.recipe.chunk_tokens,
            "overlap_tokens": self.index.recipe.overlap_tokens,
            "documents": self.documents,
            "chunks": self.chunks,
        }


class IndexBuilder:
    """Makes one rebuild. It keeps a checkpoint in ``folder``, so that a later attempt resumes there."""

    def __init__(
        self,
        *,
        writer: IndexWriter,
        documents: RebuildDocuments,
        indexes: ChangingIndexes,
        retired: RetiredVersions,
        transaction: Callable[[], AbstractContextManager[None]],
        now: Callable[[], datetime],
        folder: Path,
        progress: Callable[[float, str], None],
    ) -> None:
        """``progress`` gets the share that is done, from 0 to 1, and a text for the user."""
        self._writer, self._documents, self._indexes, self._retired = writer, documents, indexes, retired
        self._transaction, self._now, self._progress = transaction, now, progress
        self._checkpoint = folder / "place.json"

    def build(self, index: Index) -> Built:
        """Adds the index, fills it and lets it serve. Raises Unavailable; it may be called again then."""
        with self._transaction():
            self._indexes.hold()
            for other in self._indexes.active():
                # It belongs to a rebuild that was given up. Documents would be written to it for ever.
                if other.scope == index.scope and other.state == "building" and other.index_id != index.index_id:
                    self._indexes.retire(other.index_id)
            self._indexes.add(index)
        # An index that an earlier attempt began keeps its own recipe, whatever the settings say by now.
        begun = self._active(index)
        done = self._read()
        if begun.state == "building":
            self._retire_replaced(done.writing)
            done = self._fill(begun, done)
            self._serve(begun)
        return Built(index=begun, documents=done.documents, chunks=done.chunks)

    def _fill(self, index: Index, done: Checkpoint) -> Checkpoint:
        total = max(1, self._documents.totals()[0])  # reads all documents, so only once
        while page := self._documents.page(done.after, DOCUMENTS_AT_ONCE):
            self._progress(min(0.99, done.documents / total), f"{done.documents:,} of {total:,} documents")
            lost = [state.document_id for state, content in page if content is None]
            if lost:
                raise EverlearnError(
                    f"of document {lost[0]!r} SQL has no text to build an index from: withdraw it, publish it again, "
                    "then rebuild"
                )
            versions = [Version(content, state.version) for state, content in page if content is not None]
            # Write the checkpoint before the chunks. If this process dies now and a document is replaced, only the
            # checkpoint says that the replaced version is in the new index.
            self._write(replace(done, writing=tuple((*each.key, each.name) for each in versions)))
            counts = self._writer.write(index, versions)
            self._commit(index, versions, counts)
            done = Checkpoint(
                after=versions[-1].key,
                documents=done.documents + len(page),
                chunks=done.chunks + sum(counts.values()),
            )
            self._write(done)
        return done

    def _commit(self, index: Index, versions: list[Version], counts: dict[Key, int]) -> None:
        """Retires the versions that were replaced while they were written, and stores the others' chunk counts."""
        with self._transaction():
            self._retire_replaced([(*version.key, version.name) for version in versions])
            if index.scope == DEFAULT_SCOPE:
                self._documents.count_next({each.key: (each.name, counts[each.key]) for each in versions})

    def _retire_replaced(self, written: Sequence[WrittenVersion]) -> None:
        with self._transaction():
            current = self._documents.current([(tenant, document_id) for tenant, document_id, _ in written])
            for tenant, document_id, version in written:
                state = current.get((tenant, document_id))
                if state is None or state.version != version:
                    self._retired.add(tenant, document_id, version, self._now())

    def _serve(self, index: Index) -> None:
        self._progress(0.99, "switching over")
        with self._transaction():
            self._indexes.hold()
            self._active(index)
            self._indexes.serve(index.index_id, self._now())
            if index.scope == DEFAULT_SCOPE:
                self._documents.adopt_counts(index.recipe.embedding_model)

    def _active(self, index: Index) -> Index:
        """Returns the index as the table has it. Raises EverlearnError when another rebuild retired it."""
        found = next((each for each in self._indexes.active() if each.index_id == index.index_id), None)
        if found is None:
            raise EverlearnError("another rebuild of the same index was begun since: this one is given up")
        return found

    def _read(self) -> Checkpoint:
        if not self._checkpoint.is_file():
            return Checkpoint()
        stored = json.loads(self._checkpoint.read_text(encoding="utf-8"))
        return Checkpoint(
            after=None if stored["after"] is None else (stored["after"][0], stored["after"][1]),
            documents=stored["documents"],
            chunks=stored["chunks"],
            writing=tuple((tenant, document_id, version) for tenant, document_id, version in stored["writing"]),
        )

    def _write(self, checkpoint: Checkpoint) -> None:
        write_atomically(self._checkpoint, json.dumps(vars(checkpoint)))
