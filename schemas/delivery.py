"""Values that the delivery of events keeps in SQL: journal entries, in-flight marks and runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.envelope import Headers, Position, Record
from schemas.event import JsonObject


@dataclass(frozen=True, kw_only=True)
class Message:
    """A Kafka record as it was read, not decoded yet."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: Headers


RunState = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """An event that an agent has processed: the records that it published, and whether Kafka confirmed them.

    ``digest``: of the event's content, 8 bytes; None for ticks, runs, dead letters, and entries of earlier versions.
    """

    outputs: tuple[Record, ...]
    published: bool
    digest: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """Offsets of a partition that a worker has started to process and not finished.

    ``suspects_to``: after a crash, any event up to this offset may have caused it. ``alone``: the mark is for a single
    event that is handled by itself. ``attempts``: how often that event, or otherwise the batch, was started in this
    way and may have killed its process. ``life``: identifies one run of one worker process. ``since``: when the first
    attempt started. ``topic_id``: which topic of that name; None in marks of earlier versions.
    """

    topic: str
    partition: int
    first: int
    last: int
    suspects_to: int
    attempts: int
    alone: bool
    life: str
    since: datetime
    topic_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class KafkaTopic:
    """A topic as Kafka identifies it. ``topic_id``: a topic that is deleted and made anew gets another one."""

    name: str
    topic_id: str
    cluster_id: str


@dataclass(frozen=True, kw_only=True)
class MetTopic:
    """A topic that a database belongs to since ``met_at``. ``earlier_cluster``: where the name was before."""

    topic: KafkaTopic
    met_at: datetime
    earlier_cluster: str | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A run that a worker may do now. ``attempt`` counts from 1. ``context``: of the event that requested the run.

    ``spared``: how many of the attempts do not count, because the worker was stopped or something was unavailable.
    """

    run_id: str
    kind: str
    arguments: JsonObject
    context: dict[str, str]
    attempt: int
    spared: int = 0

    @property
    def counted(self) -> int:
        """How many attempts count against the run, this one included."""
        return self.attempt - self.spared


@dataclass(frozen=True, kw_only=True)
class Run:
    """The current state of a run."""

    run_id: str
    agent: str
    kind: str
    state: RunState
    attempt: int
    worker: str | None = None
    arguments: JsonObject = field(default_factory=dict)
    progress: JsonObject = field(default_factory=dict)
    """The last progress that the child process reported: ``done`` from 0 to 1, ``text``, ``eta_seconds``."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    """When a worker first claimed it."""
    finished_at: datetime | None = None
    result: JsonObject = field(default_factory=dict)
