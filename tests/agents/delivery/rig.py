"""Builds a delivery on memory twins with a simulated clock, and feedback messages to deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from agents.delivery.clocks import SteadyClock
from agents.delivery.deliver import Delivery, RetryPolicy
from agents.delivery.in_flight import InFlightTracker
from agents.delivery.outbox import Outbox
from agents.delivery.outcome import Outcome, Output
from agents.delivery.topic_ids import TopicIds
from agents.delivery.worker import BatchHandler, GivenUp
from infra.memory.database import MemoryDatabase
from infra.memory.journal import MemoryInFlightMarks, MemoryJournal
from infra.memory.kafka import MemoryKafka
from infra.memory.kafka_topics import MemoryKnownTopics
from infra.memory.runs import MemoryLeases, MemoryRunStore
from schemas.delivery import Message
from schemas.envelope import Position, Received, Record, encode, new_context
from schemas.event import Event
from schemas.interactions import FeedbackGiven, InteractionRecorded
from schemas.topics import dead_letter_topic, retry_topic

START = datetime(2026, 1, 1, tzinfo=UTC)
DEAD_LETTERS = dead_letter_topic("feedback.v1", "recorder")


@dataclass
class Clock:
    """Simulated time, which passes only when something sleeps."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        await asyncio.sleep(0)


@dataclass
class Rig:
    """Everything around a delivery. It holds all state that outlives a process."""

    clock: Clock = field(default_factory=Clock)
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    kafka: MemoryKafka = field(default_factory=MemoryKafka)
    """Where outputs go."""
    topics: MemoryKafka = field(default_factory=MemoryKafka)
    """Which topics there are; it answers also while ``kafka`` is away."""
    steps: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    effects: dict[str, int] = field(default_factory=dict)
    lives: int = 0
    read: tuple[str, ...] = ("feedback.v1", retry_topic("feedback.v1", "recorder"))
    """The topics that a worker reads."""
    seconds: float = 0.0
    """The monotonic clock, which a handler may move."""
    in_flight: InFlightTracker = field(init=False)
    """The tracker of the latest delivery."""

    @property
    def journal(self) -> MemoryJournal:
        return MemoryJournal(self.database)

    @property
    def runs(self) -> MemoryRunStore:
        return MemoryRunStore(self.database, lambda: self.seconds)

    @property
    def leases(self) -> MemoryLeases:
        return MemoryLeases(self.database, lambda: self.seconds)

    def outbox(self) -> Outbox:
        return Outbox(
            "recorder",
            database=self.database,
            journal=self.journal,
            runs=self.runs,
            publisher=self.kafka,
            clock=self.clock,
            on_step=self._on_step,
        )

    def delivery(
        self,
        handle: BatchHandler | None = None,
        *,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        given_up: Mapping[type[Event], GivenUp] | None = None,
    ) -> Delivery:
        """Returns the delivery of a new worker process."""
        self.lives += 1
        policy = RetryPolicy()
        marks = MemoryInFlightMarks(self.database)
        topic_ids = TopicIds(self.read, self.topics, MemoryKnownTopics(self.database), clock=self.clock)
        self.in_flight = InFlightTracker(
            "recorder",
            marks,
            life=f"life-{self.lives}",
            clock=self.clock,
            crashes=policy.crashes,
            topic_id=topic_ids.__getitem__,
        )
        return Delivery(
            handle or self.count,
            self.outbox(),
            self.in_flight,
            topic_ids,
            given_up=given_up,
            clock=self.clock,
            latest_now=SteadyClock(self.clock, lambda: self.seconds).latest,
            sleep=sleep or self.clock.sleep,
            monotonic=lambda: self.seconds,
            policy=policy,
            on_step=self._on_step,
        )

    async def count(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """A handler that counts its effects, so that an effect that happens twice is visible."""
        return [self.counted(received) for received in batch]

    def counted(self, received: Received[Event]) -> Outcome:
        key = received.event.key

        def effect() -> Sequence[Output]:
            with self.database.table("effects") as table:
                table[key] = table.get(key, 0) + 1
                revision = table[key]
            fact = InteractionRecorded(answer_id=key, outcome="pending", revision=revision)
            return [Output(event=fact, time=received.context.time)]

        return Outcome(effect=effect)

    def counts(self) -> dict[str, int]:
        with self.database.table("effects") as table:
            return dict(table)

    def outputs(self) -> list[Record]:
        return self.kafka.topic("interactions.v1")

    def dead_letters(self) -> list[dict[str, str]]:
        """Returns the ``dlq_`` headers of each dead letter, without their prefix."""
        return [
            {name.removeprefix("dlq_"): value.decode() for name, value in record.headers if name.startswith("dlq_")}
            for record in self.kafka.topic(DEAD_LETTERS)
        ]

    def _on_step(self, step: str, identities: Sequence[str]) -> None:
        self.steps.append((step, tuple(identities)))


def feedback(number: int, *, answer: str | None = None, reason: str = "because") -> Message:
    """Returns the ``number``-th message of feedback.v1."""
    event = FeedbackGiven(answer_id=answer or f"a{number}", rating="up", reason=reason)
    record = encode(event, new_context("/tests", now=START, event_id=f"e{number}"))
    return as_message(record, number)


def as_message(record: Record, offset: int) -> Message:
    return Message(
        position=Position(record.topic, 0, offset), key=record.key, value=record.value, headers=record.headers
    )
