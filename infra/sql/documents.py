"""Documents' current versions, and versions whose chunks are still to be deleted, in SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, tuple_

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once, slices, upsert
from schemas.features import DocumentState

_documents = tables.documents.c
_retired = tables.retired_versions.c


class SqlDocuments:
    """The table of documents and their current versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """By (tenant, document_id); withdrawn ones included. Inside a transaction they stay locked until it ends."""
        found: dict[tuple[str, str], DocumentState] = {}
        if not keys:
            return found
        with self._database.connection() as connection:
            if self._database.current is not None:
                self._database.lock(connection, (json.dumps(["document", *key]) for key in keys))
            for some in slices(keys):
                wanted = tuple_(_documents.tenant, _documents.document_id).in_(some)
                for row in connection.execute(select(tables.documents).where(wanted)).mappings():
                    found[row["tenant"], row["document_id"]] = DocumentState(**row)
        return found

    def put(self, state: DocumentState) -> None:
        """Inside a transaction."""
        with self._database.connection(write=True) as connection:
            connection.execute(upsert(self._database.dialect, tables.documents), vars(state))


class SqlRetiredVersions:
    """Versions whose chunks must still be deleted from the vector store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, tenant: str, document_id: str, version: str, at: datetime) -> None:
        """Inside a transaction; adding twice is adding once."""
        row = {"tenant": tenant, "document_id": document_id, "version": version, "retired_at": at}
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.retired_versions), row)

    def list(self, limit: int) -> list[tuple[str, str, str]]:
        """(tenant, document_id, version), oldest first."""
        oldest = (
            select(_retired.tenant, _retired.document_id, _retired.version)
            .order_by(_retired.retired_at, _retired.tenant, _retired.document_id, _retired.version)
            .limit(limit)
        )
        with self._database.connection() as connection:
            return [(tenant, document_id, version) for tenant, document_id, version in connection.execute(oldest)]

    def remove(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Forgets versions whose chunks are gone."""
        if not versions:
            return
        with self._database.connection(write=True) as connection:
            for some in slices(versions):
                gone = tuple_(_retired.tenant, _retired.document_id, _retired.version).in_(some)
                connection.execute(delete(tables.retired_versions).where(gone))
