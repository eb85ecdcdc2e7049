"""What the delivery recipe needs of the world, each port as small as its role."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from schemas.delivery import Claim, InFlight, JournalEntry, Message, Run
from schemas.envelope import Record
from schemas.event import JsonObject


class Database(Protocol):
    """SQL. Stores made from the same database take part in the transaction that is open in the current thread."""

    def transaction(self) -> AbstractContextManager[None]:
        """Commits at the end, rolls back on an exception; raises Unavailable when SQL cannot be reached."""
        ...


class Journal(Protocol):
    """Which events an agent has done, and what it published for each."""

    def find(self, agent: str, identities: Sequence[str]) -> dict[str, JournalEntry]:
        """The entries of those identities that are journaled."""
        ...

    def add(self, agent: str, identity: str, outputs: Sequence[Record], at: datetime) -> None:
        """Inside a transaction; raises AlreadyJournaled when another worker was first."""
        ...

    def add_many(self, agent: str, entries: Sequence[tuple[str, Sequence[Record]]], at: datetime) -> None:
        """``add`` for many at once, in one statement."""
        ...

    def unpublished(self, agent: str, prefix: str, before: datetime) -> dict[str, JournalEntry]:
        """Entries older than ``before``, of identities that start so, whose outputs Kafka has not confirmed."""
        ...

    def mark_published(self, agent: str, identities: Sequence[str]) -> None: ...

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes published entries older than ``before``; returns how many."""
        ...


class InFlightMarks(Protocol):
    """Which offsets a worker has begun, so that whoever takes over after a crash knows whom to suspect."""

    def read(self, agent: str) -> list[InFlight]: ...

    def write(self, agent: str, marks: Sequence[InFlight]) -> None:
        """Replaces the marks of those partitions."""
        ...


class Publisher(Protocol):
    """Sends records and waits until Kafka confirmed each; raises Unavailable when it cannot."""

    async def publish(self, records: Sequence[Record]) -> None: ...

    async def close(self) -> None: ...


class TopicReader(Protocol):
    """Reads topics without a group."""

    def follow(self, topic: str) -> AsyncIterator[Message | None]:
        """Every message from the beginning, then the new ones for ever.

        Yields None once, when the end as it was at the start has been reached. Raises Unavailable.
        """
        ...


class MessageLookup(Protocol):
    """Knows which messages exist. Asks on a connection of its own: on a consumer's it would wait for its fetches."""

    async def bounds(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """Of each (topic, partition): the offsets of its first message, the end if there is none, and of its end.

        Raises Unavailable.
        """
        ...

    async def first(self, topic: str, partition: int, offset: int) -> int:
        """The offset of the first message that exists at or behind ``offset``; the end if none does.

        Raises Unavailable.
        """
        ...

    async def close(self) -> None: ...


class Runs(Protocol):
    """Tells a room which runs there are. Rooms ask for a run with a ``RunRequest``; the outbox adds it."""

    def unfinished(self, agent: str) -> list[Run]:
        """Returns the agent's runs that are queued or running, oldest first.

        When called inside a transaction, no other process can add a run until the transaction ends.
        """
        ...

    def of_task(self, agent: str, task: str, limit: int) -> list[Run]:
        """Returns the agent's runs whose arguments name the task, newest first."""
        ...


class RunStore(Runs, Protocol):
    """Long work: rows that one worker at a time holds by a lease that it must renew."""

    def add(
        self,
        agent: str,
        run_id: str,
        kind: str,
        arguments: JsonObject,
        context: dict[str, str],
        at: datetime,
    ) -> None:
        """Inside a transaction; adding a run twice is adding it once."""
        ...

    def claim(self, agent: str, worker: str, *, now: datetime, lease_seconds: float) -> Claim | None:
        """The oldest run that is due and whose lease is free or has expired, with its attempt counted.

        ``worker`` is a name that no other running worker has: whoever comes back under it takes up at once what it died
        at. So a worker does one run at a time.
        """
        ...

    def renew(self, run_id: str, worker: str, *, now: datetime, lease_seconds: float) -> bool:
        """False when another worker holds the run by now."""
        ...

    def finish(self, run_id: str, worker: str, *, state: str, result: JsonObject, now: datetime) -> bool:
        """Inside a transaction; False when another worker holds the run by now."""
        ...

    def release(self, run_id: str, worker: str, *, now: datetime, retry_in_seconds: float) -> None: ...

    def show(self, run_id: str) -> Run | None: ...

    def report(self, run_id: str, worker: str, progress: JsonObject) -> None:
        """Writes down how far a run is; nothing happens when another worker holds it by now."""
        ...


class Leases(Protocol):
    """Named leases for what one worker of a fleet does at a time, such as ticks."""

    def acquire(self, name: str, holder: str, *, now: datetime, seconds: float) -> bool: ...

    def last(self, name: str) -> datetime | None:
        """The scheduled time that was done last."""
        ...

    def set_last(self, name: str, at: datetime) -> None:
        """Inside a transaction."""
        ...
