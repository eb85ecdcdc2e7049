"""The in-memory twin of ``infra.sql.journal``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType

from infra.memory.database import MemoryDatabase, in_utc
from schemas.delivery import InFlight, JournalEntry
from schemas.envelope import Record
from schemas.errors import AlreadyJournaled

NO_DIGESTS: Mapping[str, bytes] = MappingProxyType({})


@dataclass(frozen=True)
class _Kept:
    entry: JournalEntry
    at: datetime


class MemoryJournal:
    """Records which events an agent has handled, and what it published for each."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def find(self, agent: str, identities: Sequence[str]) -> dict[str, JournalEntry]:
        """Returns the entries of those identities that are in the journal."""
        with self._database.table("journal") as journal:
            return {each: journal[agent, each].entry for each in identities if (agent, each) in journal}

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
        """Adds many entries, as ``add`` does. ``digests``: of events' content, by identity."""
        with self._database.table("journal") as journal:
            for identity, outputs in entries:
                if (agent, identity) in journal:
                    raise AlreadyJournaled(f"{agent} has done one of these already: {identity}; read the journal")
                entry = JournalEntry(outputs=tuple(outputs), published=not outputs, digest=digests.get(identity))
                journal[agent, identity] = _Kept(entry, in_utc(at))

    def mark_published(self, agent: str, identities: Sequence[str]) -> None:
        """Notes that Kafka has confirmed all outputs of these entries, and drops the outputs."""
        with self._database.table("journal") as journal:
            for identity in identities:
                kept = journal.get((agent, identity))
                if kept is not None:
                    journal[agent, identity] = replace(kept, entry=replace(kept.entry, outputs=(), published=True))

    def unpublished(self, agent: str, prefix: str) -> dict[str, JournalEntry]:
        """Returns the entries whose identity has this prefix and whose outputs are not confirmed, oldest first."""
        with self._database.table("journal") as journal:
            return {
                identity: kept.entry
                for (owner, identity), kept in journal.items()
                if owner == agent and identity.startswith(prefix) and not kept.entry.published
            }

    def newest(self, agent: str) -> datetime | None:
        """Returns when the agent's newest entry was added, or None without entries."""
        with self._database.table("journal") as journal:
            return max((kept.at for (owner, _), kept in journal.items() if owner == agent), default=None)

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes published entries older than ``before``; returns how many."""
        before = in_utc(before)
        with self._database.table("journal") as journal:
            old = [
                key for key, kept in journal.items() if key[0] == agent and kept.at < before and kept.entry.published
            ]
            for key in old:
                del journal[key]
        return len(old)


class MemoryInFlightMarks:
    """Records which offsets a worker has begun to handle."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def read(self, agent: str) -> list[InFlight]:
        """Returns the marks of an agent, by topic and partition."""
        with self._database.table("inflight") as marks:
            return [marks[key] for key in sorted(marks) if key[0] == agent]

    def write(self, agent: str, marks: Sequence[InFlight]) -> None:
        """Writes the marks of these partitions in place of older ones."""
        with self._database.table("inflight") as kept:
            for mark in marks:
                kept[agent, mark.topic, mark.partition] = replace(mark, since=in_utc(mark.since))
