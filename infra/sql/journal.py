"""The journal and the in-flight marks of the delivery recipe, in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import false, func, select, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.exc import IntegrityError

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.records import pack, unpack
from infra.sql.statements import prune, slices, upsert
from schemas.delivery import InFlight, JournalEntry
from schemas.envelope import Record
from schemas.errors import AlreadyJournaled

_journal = tables.journal.c
_inflight = tables.inflight.c
NO_DIGESTS: Mapping[str, bytes] = MappingProxyType({})


class SqlJournal:
    """Records which events an agent has handled, and what it published for each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, agent: str, identities: Sequence[str]) -> dict[str, JournalEntry]:
        """Returns the entries of those identities that are in the journal."""
        found: dict[str, JournalEntry] = {}
        if not identities:
            return found
        columns = select(_journal.identity, _journal.outputs, _journal.published, _journal.digest)
        with self._database.connection() as connection:
            for some in slices(identities):
                rows = connection.execute(columns.where(_journal.agent == agent, _journal.identity.in_(some)))
                for identity, outputs, published, digest in rows:
                    found[identity] = JournalEntry(outputs=unpack(outputs), published=published, digest=digest)
        return found

    def add(self, agent: str, identity: str, outputs: Sequence[Record], at: datetime) -> None:
        """Inside a transaction: adds an entry. Raises AlreadyJournaled when another worker was first."""
        self.add_many(agent, [(identity, outputs)], at)

    def add_many(
        self,
        agent: str,
        entries: Sequence[tuple[str, Sequence[Record]]],
        at: datetime,
        digests: Mapping[str, bytes] = NO_DIGESTS,
    ) -> None:
        """Adds many entries in one statement, as ``add`` does. ``digests``: of events' content, by identity."""
        if not entries:
            return
        # An entry without outputs has nothing left to publish.
        rows = [
            {
                "agent": agent,
                "identity": identity,
                "outputs": pack(outputs),
                "published": not outputs,
                "at": at,
                "digest": digests.get(identity),
            }
            for identity, outputs in sorted(entries, key=lambda entry: entry[0])
        ]
        with self._database.connection(write=True) as connection:
            try:
                connection.execute(plain_insert(tables.journal), rows)
            except IntegrityError as error:
                names = ", ".join(identity for identity, _ in entries[:3])
                raise AlreadyJournaled(f"{agent} has done one of these already: {names}; read the journal") from error

    def mark_published(self, agent: str, identities: Sequence[str]) -> None:
        """Notes that Kafka has confirmed all outputs of these entries, and drops the outputs.

        Nothing reads them again, and they would take most of the database.
        """
        if not identities:
            return
        with self._database.connection(write=True) as connection:
            for some in slices(identities):
                connection.execute(
                    update(tables.journal)
                    .where(_journal.agent == agent, _journal.identity.in_(some))
                    .values(published=True, outputs=pack(()))
                )

    def unpublished(self, agent: str, prefix: str) -> dict[str, JournalEntry]:
        """Returns the entries whose identity has this prefix and whose outputs are not confirmed, oldest first."""
        waiting = (
            select(_journal.identity, _journal.outputs)
            .where(_journal.agent == agent, _journal.published.is_(false()))
            .order_by(_journal.at, _journal.identity)
        )
        with self._database.connection() as connection:
            rows = connection.execute(waiting).all()
        # Compared here, because LIKE takes the prefix for a pattern and SQLite's LIKE ignores case.
        return {
            identity: JournalEntry(outputs=unpack(outputs), published=False)
            for identity, outputs in rows
            if identity.startswith(prefix)
        }

    def newest(self, agent: str) -> datetime | None:
        """Returns when the agent's newest entry was added, or None without entries."""
        with self._database.connection() as connection:
            return connection.execute(select(func.max(_journal.at)).where(_journal.agent == agent)).scalar()

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes published entries older than ``before``; returns how many."""
        return prune(self._database, tables.journal, _journal.agent == agent, _journal.at < before, _journal.published)


class SqlInFlightMarks:
    """Records which offsets a worker has begun to handle."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self, agent: str) -> list[InFlight]:
        """Returns the marks of an agent, by topic and partition."""
        columns = [column for column in _inflight if column.name != "agent"]
        statement = select(*columns).where(_inflight.agent == agent).order_by(_inflight.topic, _inflight.partition)
        with self._database.connection() as connection:
            return [InFlight(**row) for row in connection.execute(statement).mappings()]

    def write(self, agent: str, marks: Sequence[InFlight]) -> None:
        """Writes the marks of these partitions in place of older ones."""
        if not marks:
            return
        rows = [{"agent": agent, **vars(mark)} for mark in sorted(marks, key=lambda mark: (mark.topic, mark.partition))]
        with self._database.connection(write=True) as connection:
            connection.execute(upsert(self._database.dialect, tables.inflight), rows)
