"""Stores the current versions of documents, and the versions whose chunks are not deleted yet, in SQL."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, false, func, literal, select, tuple_, update

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import among, insert_once, slices, upsert
from schemas.documents import DocumentSubmitted
from schemas.features import DocumentState

PAGE_BYTES = 8_000_000
"""About how many bytes of text ``page`` reads at once."""

_documents = tables.documents.c
_contents = tables.contents.c
_retired = tables.retired_versions.c


class SqlDocuments:
    """The table of documents and their current versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """Returns states by (tenant, document_id), withdrawn ones too. A transaction locks them until it ends."""
        found: dict[tuple[str, str], DocumentState] = {}
        if not keys:
            return found
        with self._database.connection() as connection:
            if self._database.current is not None:
                self._database.lock(connection, (json.dumps(["document", *key]) for key in keys))
            for some in slices(keys):
                wanted = among((_documents.tenant, _documents.document_id), some)
                for row in connection.execute(select(tables.documents).where(wanted)).mappings():
                    found[row["tenant"], row["document_id"]] = DocumentState(**row)
        return found

    def put(self, state: DocumentState, content: DocumentSubmitted | None = None) -> None:
        """Inside a transaction: writes a state. ``content``: what the version was made from, where that has changed."""
        key = {"tenant": state.tenant, "document_id": state.document_id}
        with self._database.connection(write=True) as connection:
            connection.execute(upsert(self._database.dialect, tables.documents), vars(state))
            if state.withdrawn:
                gone = (_contents.tenant == state.tenant) & (_contents.document_id == state.document_id)
                connection.execute(delete(tables.contents).where(gone))
            elif content is not None:
                packed = zlib.compress(content.model_dump_json(exclude_defaults=True).encode(), level=1)
                values = {**key, "version": state.version, "event": packed}
                connection.execute(upsert(self._database.dialect, tables.contents), values)

    def page(self, after: tuple[str, str] | None, limit: int) -> list[tuple[DocumentState, DocumentSubmitted | None]]:
        """Returns the documents after the key ``after``, with what they were made from; no withdrawn ones.

        Returns fewer than ``limit`` where the texts are long, but at least one.
        """
        same = (_contents.tenant == _documents.tenant) & (_contents.document_id == _documents.document_id)
        both = tables.documents.outerjoin(tables.contents, same)
        wanted = select(tables.documents, _contents.event).select_from(both).where(_documents.withdrawn.is_(false()))
        if after is not None:
            wanted = wanted.where(tuple_(_documents.tenant, _documents.document_id) > tuple_(*map(literal, after)))
        wanted = wanted.order_by(_documents.tenant, _documents.document_id).limit(limit)
        found = []
        size = 0
        with self._database.connection() as connection, connection.execute(wanted) as rows:
            for row in rows.mappings():
                state = DocumentState(**{name: value for name, value in row.items() if name != "event"})
                packed = None if row["event"] is None else zlib.decompress(row["event"])
                content = None if packed is None else DocumentSubmitted.model_validate_json(packed)
                found.append((state, content))
                size += len(packed or b"")
                if size > PAGE_BYTES:
                    break
        return found

    def states(self, after: tuple[str, str] | None, limit: int) -> list[DocumentState]:
        """Returns the states of the documents after the key ``after``; no withdrawn ones."""
        wanted = select(tables.documents).where(_documents.withdrawn.is_(false()))
        if after is not None:
            wanted = wanted.where(tuple_(_documents.tenant, _documents.document_id) > tuple_(*map(literal, after)))
        wanted = wanted.order_by(_documents.tenant, _documents.document_id).limit(limit)
        with self._database.connection() as connection:
            return [DocumentState(**row) for row in connection.execute(wanted).mappings()]

    def any_of(self, tenant: str) -> bool:
        """Tells whether the tenant has a document that is not withdrawn."""
        standing = select(_documents.tenant).where(_documents.tenant == tenant, _documents.withdrawn.is_(false()))
        with self._database.connection() as connection:
            return connection.execute(standing.limit(1)).first() is not None

    def count_next(self, counts: Mapping[tuple[str, str], tuple[str, int]]) -> None:
        """Stores by key how many chunks this version of a document has in the index that is being built."""
        with self._database.connection(write=True) as connection:
            for (tenant, document_id), (version, count) in sorted(counts.items()):
                row = (_documents.tenant == tenant) & (_documents.document_id == document_id)
                wanted = row & (_documents.version == version)
                connection.execute(update(tables.documents).where(wanted).values(next_chunk_count=count))

    def adopt_counts(self, embedding_model: str) -> None:
        """Inside a transaction: makes the counts of the index that was being built the current ones."""
        counted = func.coalesce(_documents.next_chunk_count, _documents.chunk_count)
        values = {"chunk_count": counted, "next_chunk_count": None, "embedding_model": embedding_model}
        with self._database.connection(write=True) as connection:
            connection.execute(update(tables.documents).where(_documents.withdrawn.is_(false())).values(**values))

    def totals(self) -> tuple[int, int]:
        """Returns the number of documents that are not withdrawn, and of their chunks."""
        counted = select(func.count(), func.coalesce(func.sum(_documents.chunk_count), 0))
        with self._database.connection() as connection:
            documents, chunks = connection.execute(counted.where(_documents.withdrawn.is_(false()))).one()
        return int(documents), int(chunks)


class SqlRetiredVersions:
    """The versions whose chunks must still be deleted from the vector store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, tenant: str, document_id: str, version: str, at: datetime) -> None:
        """Inside a transaction; a second call with the same version changes nothing."""
        row = {"tenant": tenant, "document_id": document_id, "version": version, "retired_at": at}
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.retired_versions), row)

    def list(self, limit: int) -> list[tuple[str, str, str]]:
        """Returns (tenant, document_id, version), oldest first."""
        oldest = (
            select(_retired.tenant, _retired.document_id, _retired.version)
            .order_by(_retired.retired_at, _retired.tenant, _retired.document_id, _retired.version)
            .limit(limit)
        )
        with self._database.connection() as connection:
            return [(tenant, document_id, version) for tenant, document_id, version in connection.execute(oldest)]

    def count(self) -> int:
        """Returns the number of versions."""
        with self._database.connection() as connection:
            return int(connection.execute(select(func.count()).select_from(tables.retired_versions)).scalar_one())

    def remove(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Deletes the rows of versions whose chunks were deleted."""
        if not versions:
            return
        with self._database.connection(write=True) as connection:
            for some in slices(versions):
                gone = among((_retired.tenant, _retired.document_id, _retired.version), some)
                connection.execute(delete(tables.retired_versions).where(gone))
