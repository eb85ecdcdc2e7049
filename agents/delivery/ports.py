"""What the delivery recipe needs from outside, each port as small as its role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from schemas.delivery import Claim, InFlight, JournalEntry, KafkaTopic, Message, Run
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

    def add_many(
        self,
        agent: str,
        entries: Sequence[tuple[str, Sequence[Record]]],
        at: datetime,
        digests: Mapping[str, bytes] = ...,
    ) -> None:
        """Adds many entries in one statement, as ``add`` does. ``digests``: of events' content, by identity."""
        ...

    def unpublished(self, agent: str, prefix: str) -> dict[str, JournalEntry]:
        """Returns the entries whose identity has this prefix and whose outputs are not confirmed, oldest first."""
        ...

    def newest(self, agent: str) -> datetime | None:
        """Returns when the agent's newest entry was added, or None without entries."""
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


class TopicLookup(Protocol):
    """Asks Kafka for the ids of topics."""

    def topics(self, names: Sequence[str]) -> list[KafkaTopic]:
        """Returns the topics of these names. Raises Unavailable, also where one does not exist."""
        ...


class KnownTopics(Protocol):
    """Stores which topics a database belongs to."""

    def meet(self, topics: Sequence[KafkaTopic], at: datetime) -> dict[str, KafkaTopic]:
        """Stores the topics, and returns by name those that it knew under another id.

        When it meets a name for the first time, what earlier versions stored by that name belongs to this topic from
        then on: the journal's identities of dead letters, and in-flight marks.
        """
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


class MessageStream(Protocol):
    """One member of an agent's consumer group, which hands batches of messages to ``Delivery.deliver``.

    ``tests/flows/stream_contract.py`` says as tests what an implementation must do.
    """

    assigned: asyncio.Event
    """Set once Kafka has assigned partitions to this member, possibly none."""
    crashed: asyncio.Future[None]
    """Fails with whatever ended the stream."""

    async def start(self) -> None:
        """Joins the group. ``assigned`` is set when it has joined."""
        ...

    async def stop(self, seconds: float) -> None:
        """Stops after the current batch, waiting at most this long for it; commits what was acked."""
        ...

    async def lag(self) -> int:
        """Counts the messages that wait in the partitions assigned to this member. Raises Unavailable."""
        ...

    def idle_seconds(self) -> float:
        """Returns for how long no message has arrived; 0 while a batch is being handled."""
        ...

    def ended(self) -> bool:
        """Returns whether the consumer has stopped by itself."""
        ...


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
        """Claims the oldest run that is due and that nobody holds, and counts the attempt.

        A run that another worker holds is free when this store has seen it without a renewal for ``lease_seconds``. So
        a lease is compared with no clock that somebody may set. ``worker`` is a name that no other running worker has.
        A worker that restarts under the same name gets its own run back at once, so a worker does one run at a time.
        """
        ...

    # A claim is identified by its attempt: the worker that lost a run may have the name of the one that holds it.

    def renew(self, run_id: str, attempt: int, *, now: datetime, lease_seconds: float) -> bool:
        """Extends the lease. Returns False when this attempt does not hold the run any more."""
        ...

    def finish(self, run_id: str, attempt: int, *, state: str, result: JsonObject, now: datetime) -> bool:
        """Inside a transaction: ends a run. Returns False when this attempt does not hold the run any more."""
        ...

    def release(
        self, run_id: str, attempt: int, *, now: datetime, retry_in_seconds: float, spare: bool = False
    ) -> None:
        """Puts the run back into the queue, due after that time. ``spare``: this attempt does not count.

        Does nothing when this attempt does not hold the run any more.
        """
        ...

    def show(self, run_id: str) -> Run | None: ...

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes runs that ended before then, a bounded number; returns how many."""
        ...

    def report(self, run_id: str, attempt: int, progress: JsonObject) -> None:
        """Stores the progress of a run. Does nothing when this attempt does not hold the run any more."""
        ...


class Leases(Protocol):
    """Named leases for work that one worker does at a time, such as ticks."""

    def acquire(self, name: str, holder: str, *, now: datetime, seconds: float) -> bool:
        """Takes a lease that is free, or renews the holder's own. Returns whether it holds the lease.

        Another holder's lease becomes free when this store has seen it without a renewal for ``seconds``.
        """
        ...

    def last(self, name: str) -> datetime | None:
        """Returns the last scheduled time that was done."""
        ...

    def set_last(self, name: str, at: datetime) -> bool:
        """Inside a transaction: stores a scheduled time that was done. Returns False where a later one is stored."""
        ...

    def generation(self, name: str) -> int:
        """Returns how often the scheduled times have started over."""
        ...

    def start_over(self, name: str, at: datetime, generation: int) -> bool:
        """Inside a transaction: stores a scheduled time that was done, also one before the stored time.

        Returns False, and changes nothing, where another worker has started this generation.
        """
        ...
