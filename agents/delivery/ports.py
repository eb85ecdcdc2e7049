"""What the delivery recipe needs from outside, each port as small as its role."""

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
    """Stores which events an agent has handled, and what it published for each."""

    def find(self, agent: str, identities: Sequence[str]) -> dict[str, JournalEntry]:
        """Returns the entries of those identities that are in the journal."""
        ...

    def add(self, agent: str, identity: str, outputs: Sequence[Record], at: datetime) -> None:
        """Inside a transaction: adds an entry. Raises AlreadyJournaled when another worker was first."""
        ...

    def add_many(self, agent: str, entries: Sequence[tuple[str, Sequence[Record]]], at: datetime) -> None:
        """Adds many entries in one statement, as ``add`` does."""
        ...

    def unpublished(self, agent: str, prefix: str, before: datetime) -> dict[str, JournalEntry]:
        """Returns entries before ``before`` whose identity has this prefix and whose outputs are not confirmed."""
        ...

    def mark_published(self, agent: str, identities: Sequence[str]) -> None:
        """Notes that all outputs of these entries are confirmed, and drops the outputs: nothing reads them again."""
        ...

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes published entries older than ``before``, a bounded number; returns how many."""
        ...


class InFlightMarks(Protocol):
    """Stores which offsets a worker has begun, so that the next worker knows which events may have caused a crash."""

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
        """Yields every message from the beginning, then new ones for ever.

        Yields None once, when it has reached the end that the topic had at the start. Raises Unavailable.
        """
        ...


class MessageLookup(Protocol):
    """Looks up which messages exist. It has its own connection: on a consumer's, it would wait for fetches."""

    async def bounds(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """Returns for each (topic, partition) the offset of its first message and its end offset.

        Both are the end offset where there is no message. Raises Unavailable.
        """
        ...

    async def first(self, topic: str, partition: int, offset: int) -> int:
        """Returns the offset of the first message at or after ``offset``, or the end offset if there is none.

        Raises Unavailable.
        """
        ...

    async def close(self) -> None: ...


class Runs(Protocol):
    """Shows a room which runs exist. Rooms request a run with a ``RunRequest``; the outbox adds it."""

    def unfinished(self, agent: str) -> list[Run]:
        """Returns the agent's runs that are queued or running, oldest first.

        When called inside a transaction, no other process can add a run until the transaction ends.
        """
        ...

    def of_task(self, agent: str, task: str, limit: int) -> list[Run]:
        """Returns the agent's runs whose arguments name the task, newest first."""
        ...


class RunStore(Runs, Protocol):
    """Stores runs of long work. One worker at a time holds a run, by a lease that it must renew."""

    def add(
        self,
        agent: str,
        run_id: str,
        kind: str,
        arguments: JsonObject,
        context: dict[str, str],
        at: datetime,
    ) -> None:
        """Inside a transaction: queues a run. Adding it twice has no further effect."""
        ...

    def claim(self, agent: str, worker: str, *, now: datetime, lease_seconds: float) -> Claim | None:
        """Claims the oldest run that is due and whose lease is free or has expired, and counts the attempt.

        ``worker`` is a name that no other running worker has. A worker that restarts under the same name gets its own
        run back at once, so a worker does one run at a time.
        """
        ...

    def renew(self, run_id: str, worker: str, *, now: datetime, lease_seconds: float) -> bool:
        """Extends the lease. Returns False when another worker holds the run."""
        ...

    def finish(self, run_id: str, worker: str, *, state: str, result: JsonObject, now: datetime) -> bool:
        """Inside a transaction: ends a run. Returns False when another worker holds the run."""
        ...

    def release(self, run_id: str, worker: str, *, now: datetime, retry_in_seconds: float) -> None: ...

    def show(self, run_id: str) -> Run | None: ...

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes runs that ended before then, a bounded number; returns how many."""
        ...

    def report(self, run_id: str, worker: str, progress: JsonObject) -> None:
        """Stores the progress of a run. Does nothing when another worker holds the run."""
        ...


class Leases(Protocol):
    """Named leases for work that one worker does at a time, such as ticks."""

    def acquire(self, name: str, holder: str, *, now: datetime, seconds: float) -> bool: ...

    def last(self, name: str) -> datetime | None:
        """Returns the last scheduled time that was done."""
        ...

    def set_last(self, name: str, at: datetime) -> bool:
        """Inside a transaction: stores a scheduled time that was done. Returns False where a later one is stored."""
        ...
