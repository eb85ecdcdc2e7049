"""The in-memory twin of ``infra.sql.documents``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from infra.memory.database import MemoryDatabase, in_utc
from schemas.documents import DocumentSubmitted
from schemas.features import DocumentState


class MemoryDocuments:
    """The table of documents and their current versions."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """Returns states by (tenant, document_id), withdrawn ones too."""
        with self._database.table("documents") as documents:
            return {key: documents[key] for key in keys if key in documents}

    def put(self, state: DocumentState, content: DocumentSubmitted | None = None) -> None:
        """Inside a transaction: writes a state. ``content``: what the version was made from, where that has changed."""
        key = (state.tenant, state.document_id)
        with self._database.table("documents") as documents, self._database.table("contents") as contents:
            documents[key] = replace(state, submitted_at=in_utc(state.submitted_at))
            if state.withdrawn:
                contents.pop(key, None)
            elif content is not None:
                contents[key] = content

    def page(self, after: tuple[str, str] | None, limit: int) -> list[tuple[DocumentState, DocumentSubmitted | None]]:
        """Returns the documents after the key ``after``, with what they were made from; no withdrawn ones."""
        with self._database.table("documents") as documents, self._database.table("contents") as contents:
            keys = sorted(key for key, state in documents.items() if not state.withdrawn)
            wanted = [key for key in keys if after is None or key > after][:limit]
            return [(documents[key], contents.get(key)) for key in wanted]

    def count_next(self, counts: Mapping[tuple[str, str], tuple[str, int]]) -> None:
        """Stores by key how many chunks this version of a document has in the index that is being built."""
        with self._database.table("documents") as documents:
            for key, (version, count) in counts.items():
                if key in documents and documents[key].version == version:
                    documents[key] = replace(documents[key], next_chunk_count=count)

    def adopt_counts(self, embedding_model: str) -> None:
        """Inside a transaction: makes the counts of the index that was being built the current ones."""
        with self._database.table("documents") as documents:
            for key, state in documents.items():
                if not state.withdrawn:
                    count = state.chunk_count if state.next_chunk_count is None else state.next_chunk_count
                    changed = {"chunk_count": count, "next_chunk_count": None, "embedding_model": embedding_model}
                    documents[key] = replace(state, **changed)

    def totals(self) -> tuple[int, int]:
        """Returns the number of documents that are not withdrawn, and of their chunks."""
        with self._database.table("documents") as documents:
            standing = [state for state in documents.values() if not state.withdrawn]
        return len(standing), sum(state.chunk_count for state in standing)


class MemoryRetiredVersions:
    """The versions whose chunks must still be deleted from the vector store."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, tenant: str, document_id: str, version: str, at: datetime) -> None:
        """Inside a transaction; a second call with the same version changes nothing."""
        with self._database.table("retired_versions") as retired:
            retired.setdefault((tenant, document_id, version), in_utc(at))

    def list(self, limit: int) -> list[tuple[str, str, str]]:
        """Returns (tenant, document_id, version), oldest first."""
        with self._database.table("retired_versions") as retired:
            return sorted(retired, key=lambda version: (retired[version], version))[:limit]

    def remove(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Deletes the rows of versions whose chunks were deleted."""
        with self._database.table("retired_versions") as retired:
            for version in versions:
                retired.pop(version, None)
