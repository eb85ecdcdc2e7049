"""A promoter on the stores of a test, under the real delivery recipe, that can be killed at any step of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from agents.delivery.deliver import Delivery
from agents.delivery.in_flight import InFlightTracker
from agents.delivery.outbox import Cause, Outbox
from agents.delivery.outcome import Outcome
from agents.delivery.ports import Database as DatabasePort
from agents.delivery.topic_ids import TopicIds
from agents.delivery.worker import dispatcher
from agents.promoter.agent import Promoter, ReleaseAliases
from agents.promoter.controller import ReleaseController
from agents.promoter.ports import ReleaseStore
from agents.promoter.published import PublishedReleases
from infra.memory.database import MemoryDatabase
from infra.memory.kafka import MemoryKafka
from infra.memory.registry import MemoryRegistry
from infra.memory.releases import MemoryReleases
from infra.sql.database import Database
from infra.sql.releases import SqlReleases
from schemas.delivery import Message
from schemas.envelope import EventContext, Position, Received, Record, decode, encode, identity, new_context
from schemas.event import Event
from schemas.features import Interaction
from schemas.interactions import InteractionOutcome, InteractionRecorded
from schemas.learning import AdapterValidated, ExperimentRequested, PromotionRequested, RollbackRequested
from schemas.policies import PromoterPolicy
from schemas.promotions import ReleaseEvent
from schemas.questions import Arm
from schemas.registry import AdapterRecord, AdapterState
from schemas.release_state import Release
from schemas.tasks import TaskFingerprint
from schemas.topics import TOPIC_OF, dead_letter_topic, read_by
from tests.fixtures.sql import Stores

START = datetime(2026, 1, 1, tzinfo=UTC)
TASK = "routing"
POLICY = PromoterPolicy(shares=(0.2, 0.5), judged=10, watch_seconds=3600.0)
_lives = itertools.count()


class Killed(BaseException):
    """The process died here."""


def releases_of(database: DatabasePort) -> ReleaseStore:
    """Returns the release store of a test's database."""
    if isinstance(database, MemoryDatabase):
        return MemoryReleases(database)
    assert isinstance(database, Database)
    return SqlReleases(database)


@dataclass
class Room:
    """A promoter that can be killed and restarted, with stores that outlive it."""

    stores: Stores
    policy: PromoterPolicy = POLICY
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    kafka: MemoryKafka = field(default_factory=MemoryKafka)
    now: datetime = START
    kill_at: str | None = None
    """A step of the recipe at which the process dies once."""
    logged: list[str] = field(default_factory=list)
    tasks: dict[str, TaskFingerprint] = field(default_factory=dict)
    """The tasks as they are now."""

    def __post_init__(self) -> None:
        self.releases = releases_of(self.stores.database)
        self._offsets = itertools.count()
        self._answers = itertools.count()
        self.begin_life()

    def begin_life(self) -> None:
        """Starts a new promoter on the same stores."""
        self.aliases = ReleaseAliases(self.releases, self.registry)
        self.published_releases = PublishedReleases(self.releases, log=self._log)
        self._followed = 0
        self.promoter = Promoter(
            controller=ReleaseController(
                self.releases, lambda _: self.policy, now=lambda: self.now, log=self._log, task_of=self._task_of
            ),
            adapters=self.registry,
            aliases=self.aliases,
            published=self.published_releases,
            log=self._log,
        )
        stores = self.stores
        self.outbox = Outbox(
            "promoter",
            database=stores.database,
            journal=stores.journal,
            runs=stores.runs,
            publisher=self.kafka,
            clock=lambda: self.now,
            on_step=self._on_step,
        )
        topic_ids = TopicIds(read_by("promoter"), MemoryKafka(), stores.known_topics, clock=lambda: self.now)
        in_flight = InFlightTracker(
            "promoter",
            stores.marks,
            life=f"life-{next(_lives)}",
            clock=lambda: self.now,
            crashes=3,
            topic_id=topic_ids.__getitem__,
        )
        self.delivery = Delivery(
            dispatcher("promoter", self.promoter.handlers()),
            self.outbox,
            in_flight,
            topic_ids,
            clock=lambda: self.now,
            on_step=self._on_step,
        )

    async def deliver(self, *events: Event | Message) -> list[Message]:
        """Delivers one batch; returns its messages, so that they can be delivered again."""
        messages = [each if isinstance(each, Message) else self.message(each) for each in events]
        await self.delivery.deliver(messages)
        return messages

    async def evaluate(self) -> None:
        """Follows promotions.v1 to its end, then makes the tick that judges canaries."""
        records = self.kafka.topic("promotions.v1")
        for offset, record in list(enumerate(records))[self._followed :]:
            event, context = decode(record.topic, record.value, record.headers, now=self.now)
            position = Position(record.topic, 0, offset)
            await self.published_releases.follow(Received(event=event, context=context, position=position))
        self._followed = len(records)
        await self.tick(await self.promoter.evaluate(self.now))

    async def follow_tasks(self) -> None:
        """Makes the tick that compares adapters with their tasks, at a time of its own."""
        self.now += timedelta(seconds=5)
        await self.tick(await self.promoter.follow_tasks(self.now))

    def _task_of(self, task: str) -> TaskFingerprint | None:
        return self.tasks.get(task)

    async def tick(self, outcome: Outcome) -> None:
        """Commits and publishes the outcome of a tick."""
        context = EventContext(id=f"tick-{self.now.isoformat()}", source="/everlearn/promoter/ticks", time=self.now)
        await self.outbox.settle([Cause(identity=identity(context), context=context)], [outcome], {})

    def message(self, event: Event) -> Message:
        offset = next(self._offsets)
        record = encode(event, new_context("/tests", now=START, event_id=f"e{offset}"))
        position = Position(TOPIC_OF[type(event)].name, 0, offset)
        return Message(position=position, key=record.key, value=record.value, headers=record.headers)

    def answer(
        self,
        arm: Arm,
        became: InteractionOutcome,
        number: int = 1,
        *,
        task: str = TASK,
        sequence: int | None = None,
        user: str | None = None,
    ) -> InteractionRecorded:
        """Stores so many answers by the current release; returns the recorder's event for the last one.

        Each is to another user, unless one is named.
        """
        if sequence is None:
            sequence = self.current(task).sequence
        for _ in range(number):
            answer_id = f"a{next(self._answers)}"
            row = Interaction(
                answer_id=answer_id,
                revision=1,
                outcome=became,
                task=task,
                arm=arm,
                release_sequence=sequence,
                user=user or f"user {answer_id}",
            )
            with self.stores.database.transaction():
                self.stores.features.put_interaction(
                    replace(row, answered_at=self.now, first_event_at=self.now, last_event_at=self.now)
                )
        return InteractionRecorded(answer_id=answer_id, task=task, arm=arm, outcome=became, revision=1)

    def register(self, *adapter_ids: str, task: str = TASK, state: AdapterState = "validated") -> None:
        for adapter_id in adapter_ids:
            self.registry.register(
                AdapterRecord(
                    adapter_id=adapter_id,
                    task=task,
                    base_model="b",
                    dataset_id="d",
                    run_id="r",
                    size_bytes=1,
                    created_at=START + timedelta(minutes=len(self.registry.adapters())),
                )
            )
            self.registry.judge(adapter_id, state=state, scores={}, reasons=["too bad"], report_uri=None)

    def current(self, task: str = TASK) -> Release:
        return self.releases.current(task)

    def published(self) -> list[ReleaseEvent]:
        """Returns the events of promotions.v1. What is published twice must have the same bytes."""
        seen: dict[bytes, Record] = {}
        for record in self.kafka.topic("promotions.v1"):
            same = seen.setdefault(dict(record.headers)["ce_id"], record)
            assert same == record
        events = []
        for record in seen.values():
            event, context = decode("promotions.v1", record.value, record.headers, now=START + timedelta(days=30))
            assert isinstance(event, ReleaseEvent)
            line = next(each for each in self.releases.history(event.task) if each.release.sequence == event.sequence)
            assert (line.event_type, line.at) == (event.type, context.time)
            events.append(event)
        return events

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.published()]

    def dead_letters(self) -> list[str]:
        """Returns the dead letters of all topics that the promoter reads."""
        return [
            dict(record.headers)["dlq_message"].decode()
            for topic in ("validations.v1", "requests.v1", "interactions.v1")
            for record in self.kafka.topic(dead_letter_topic(topic, "promoter"))
        ]

    def _on_step(self, step: str, _identities: Sequence[str]) -> None:
        if step == self.kill_at:
            self.kill_at = None
            raise Killed

    def _log(self, event: str, **_fields: object) -> None:
        self.logged.append(event)


def validated(adapter_id: str, task: str = TASK, *, fingerprint: TaskFingerprint | None = None) -> AdapterValidated:
    return AdapterValidated(task=task, adapter_id=adapter_id, fingerprint=fingerprint)


def promotion(
    adapter_id: str, task: str = TASK, reason: str | None = None, sequence: int | None = None
) -> PromotionRequested:
    return PromotionRequested(task=task, adapter_id=adapter_id, reason=reason, sequence=sequence)


def rollback(
    task: str = TASK, reason: str | None = None, adapter_id: str | None = None, sequence: int | None = None
) -> RollbackRequested:
    return RollbackRequested(task=task, reason=reason, adapter_id=adapter_id, sequence=sequence)


def experiment(
    adapter_id: str, share: float = 0.5, task: str = TASK, sequence: int | None = None
) -> ExperimentRequested:
    return ExperimentRequested(task=task, adapter_id=adapter_id, share=share, sequence=sequence)


async def bad_stage(room: Room) -> None:
    """Gives the challenger so many bad ratings that it is rolled back."""
    room.answer("champion", "approved", 30)
    await room.deliver(room.answer("challenger", "disapproved", 30))


async def good_stage(room: Room) -> None:
    """Gives the challenger enough good ratings at its present share."""
    room.answer("champion", "approved", 30)
    await room.deliver(room.answer("challenger", "approved", 30))
