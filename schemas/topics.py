"""The topic table: each topic once, with its key, size, writer and readers.

The number of partitions of a topic never changes; a topic that must grow gets a successor. ``answers``, ``feedback``
and ``interactions`` have the same number, so all events of one answer are in partitions of the same number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from schemas.documents import (
    DocumentIndexed,
    DocumentSubmitted,
    DocumentUnindexed,
    DocumentWithdrawn,
    IndexNotRebuilt,
    IndexRebuildRequested,
    IndexRebuilt,
)
from schemas.event import Event
from schemas.fleet import WorkerReported
from schemas.interactions import ExampleSubmitted, FeedbackGiven, InteractionRecorded
from schemas.learning import (
    AdapterRejected,
    AdapterTrained,
    AdapterValidated,
    DriftCheckRequested,
    DriftDetected,
    ExperimentRequested,
    PromotionRequested,
    RollbackRequested,
    TrainingDeclined,
    TrainingRequested,
)
from schemas.models import ModelQuantized, ModelRegistered
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryAdvanced, CanaryStarted
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked

MAX_RECORD_BYTES = 9 * 1024 * 1024
"""The largest record that a topic accepts: a document of two million characters, four bytes each, with headers."""


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A Kafka topic. Each of ``readers`` has its own group; ``followers`` read a compacted topic whole, without one."""

    name: str
    key: str
    events: tuple[type[Event], ...]
    writer: str
    readers: tuple[str, ...] = ()
    followers: tuple[str, ...] = ()
    partitions: int = 1
    compacted: bool = False
    retention_days: int = 14


@dataclass(frozen=True, kw_only=True)
class TopicSettings:
    """The settings with which a topic is created in Kafka."""

    name: str
    partitions: int
    compacted: bool
    retention_days: int


CLIENTS = "clients"

TOPICS: tuple[Topic, ...] = (
    Topic(
        name="documents.v1",
        key="tenant/document_id",
        writer=CLIENTS,
        readers=("indexer",),
        partitions=6,
        events=(DocumentSubmitted, DocumentWithdrawn),
    ),
    Topic(
        name="documents.bulk.v1",
        key="tenant/document_id",
        writer=CLIENTS,
        readers=("loader",),
        partitions=6,
        events=(DocumentSubmitted, DocumentWithdrawn),
    ),
    Topic(
        name="indexing.v1",
        key="tenant/document_id",
        writer="indexer",
        partitions=6,
        events=(DocumentIndexed, DocumentUnindexed, IndexRebuilt, IndexNotRebuilt),
    ),
    Topic(
        name="questions.v1",
        key="session or user",
        writer=CLIENTS,
        readers=("answerer",),
        partitions=6,
        events=(QuestionAsked,),
    ),
    Topic(
        name="answers.v1",
        key="answer_id",
        writer="answerer",
        readers=("recorder",),
        partitions=6,
        events=(AnswerProduced, AnswerFailed),
    ),
    Topic(
        name="feedback.v1",
        key="answer_id",
        writer=CLIENTS,
        readers=("recorder",),
        partitions=6,
        events=(FeedbackGiven,),
    ),
    Topic(
        name="examples.v1", key="task", writer=CLIENTS, readers=("recorder",), partitions=3, events=(ExampleSubmitted,)
    ),
    Topic(
        name="interactions.v1",
        key="answer_id",
        writer="recorder",
        readers=("monitor", "promoter"),
        partitions=6,
        events=(InteractionRecorded,),
    ),
    Topic(name="drift.v1", key="task", writer="monitor", readers=("trainer",), events=(DriftDetected,)),
    Topic(
        name="requests.v1",
        key="task",
        writer=CLIENTS,
        readers=("trainer", "monitor", "promoter", "indexer"),
        events=(
            TrainingRequested,
            DriftCheckRequested,
            PromotionRequested,
            RollbackRequested,
            ExperimentRequested,
            IndexRebuildRequested,
        ),
    ),
    Topic(
        name="adapters.v1",
        key="task",
        writer="trainer",
        readers=("validator",),
        events=(AdapterTrained, TrainingDeclined),
    ),
    Topic(
        name="validations.v1",
        key="task",
        writer="validator",
        readers=("promoter",),
        events=(AdapterValidated, AdapterRejected),
    ),
    Topic(
        name="promotions.v1",
        key="task",
        writer="promoter",
        followers=("answerer", "monitor", "validator", "promoter"),
        compacted=True,
        events=(CanaryStarted, CanaryAdvanced, AdapterPromoted, AdapterRolledBack),
    ),
    Topic(name="fleet.v1", key="worker", writer="every agent", compacted=True, events=(WorkerReported,)),
    Topic(name="models.v1", key="model", writer=CLIENTS, readers=("quantizer",), events=(ModelRegistered,)),
    Topic(name="quantizations.v1", key="model", writer="quantizer", events=(ModelQuantized,)),
)

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
EVENT_TYPES: dict[str, type[Event]] = {event.type: event for topic in TOPICS for event in topic.events}
TOPIC_OF: dict[type[Event], Topic] = {event: topic for topic in reversed(TOPICS) for event in topic.events}
"""The topic to which an event is sent unless the sender chooses another: the first topic that has the event."""
BULK_DOCUMENTS = "documents.bulk.v1"


def read_by(agent: str) -> tuple[str, ...]:
    """Returns the topics that an agent consumes, in the order of the table."""
    return tuple(topic.name for topic in TOPICS if agent in topic.readers)


def followed_by(agent: str) -> tuple[str, ...]:
    """Returns the compacted topics that an agent reads whole, without a group."""
    return tuple(topic.name for topic in TOPICS if agent in topic.followers)


def dead_letter_topic(topic: str, agent: str) -> str:
    """Returns the topic to which an agent publishes the events that it could not process."""
    return f"{topic}.{agent}.dlq"


def dead_letters_of(topic: str, topic_id: str | None) -> str:
    """Returns how the journal's identities of a topic's dead letters begin. Earlier versions knew no topic ids: None.

    "@" is in no topic's name, and so no identity of an earlier version begins like a present one.
    """
    return f"dlq:{topic}/" if topic_id is None else f"dlq:{topic}@{topic_id}/"


def retry_topic(topic: str, agent: str) -> str:
    """Returns the topic to which ``dlq retry`` publishes a dead letter again, for that agent only."""
    return f"{topic}.{agent}.retry"


def origin_topic(name: str) -> str:
    """Returns the topic of the table that a retry or dead-letter topic belongs to. Raises KeyError if there is none."""
    for topic in TOPICS:
        if name == topic.name or name.startswith(f"{topic.name}."):
            return topic.name
    raise KeyError(name)


SEGMENT_DAYS = 1
"""Kafka deletes whole segments of a topic. A segment takes records for this long, so the first of them stay longer."""

LONGEST_KEPT_DAYS = max(topic.retention_days for topic in TOPICS if topic.readers) + 2 * SEGMENT_DAYS
"""For how long an agent may be given an event again, with a day to spare. What makes a second delivery harmless must
outlive it."""


def all_topics() -> Iterator[TopicSettings]:
    """Yields every topic to create: the topics of the table, and a dead-letter and a retry topic for each reader."""
    for topic in TOPICS:
        yield TopicSettings(
            name=topic.name, partitions=topic.partitions, compacted=topic.compacted, retention_days=topic.retention_days
        )
        for reader in topic.readers:
            for name, days in ((dead_letter_topic(topic.name, reader), 90), (retry_topic(topic.name, reader), 14)):
                yield TopicSettings(name=name, partitions=1, compacted=False, retention_days=days)
