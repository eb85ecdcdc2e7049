"""The in-memory twin of ``infra.sql.documents``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from infra.memory.database import MemoryDatabase, in_utc
from schemas.features import DocumentState


class MemoryDocuments:
    """The table of documents and their current versions."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """By (tenant, document_id); withdrawn ones included."""
        with self._database.table("documents") as documents:
            return {key: documents[key] for key in keys if key in documents}

    def put(self, state: DocumentState) -> None:
        """Inside a transaction."""
        with self._database.table("documents") as documents:
            documents[state.tenant, state.document_id] = replace(state, submitted_at=in_utc(state.submitted_at))


class MemoryRetiredVersions:
    """Versions whose chunks must still be deleted from the vector store."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, tenant: str, document_id: str, version: str, at: datetime) -> None:
        """Inside a transaction; adding twice is adding once."""
        with self._database.table("retired_versions") as retired:
            retired.setdefault((tenant, document_id, version), in_utc(at))

    def list(self, limit: int) -> list[tuple[str, str, str]]:
        """(tenant, document_id, version), oldest first."""
        with self._database.table("retired_versions") as retired:
            return sorted(retired, key=lambda version: (retired[version], version))[:limit]

    def remove(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Forgets versions whose chunks are gone."""
        with self._database.table("retired_versions") as retired:
            for version in versions:
                retired.pop(version, None)
