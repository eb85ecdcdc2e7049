"""Values of the delivery recipe that are kept in SQL: journal entries, in-flight marks, runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from schemas.envelope import Headers, Position, Record


@dataclass(frozen=True, kw_only=True)
class Message:
    """A Kafka record as it was read, decoded by nobody yet."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: Headers


RunState = Literal["queued", "running", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class JournalEntry:
    """An event that an agent has done: the records it published for it, and whether Kafka confirmed them."""

    outputs: tuple[Record, ...]
    published: bool


@dataclass(frozen=True, kw_only=True)
class InFlight:
    """Offsets of a partition that a worker has begun and not finished.

    ``suspects_to``: after a crash, the events up to this offset are suspects too. ``alone``: the mark is of one event
    that is handled by itself; ``attempts``: how often it, or otherwise the batch, was begun so. ``life``: one run of
    one process. ``since``: when the first attempt began.
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


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A run that a worker may do now. ``attempt`` counts from 1. ``context``: that of the event which asked for it."""

    run_id: str
    kind: str
    arguments: dict[str, Any]
    context: dict[str, str]
    attempt: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as it stands."""

    run_id: str
    agent: str
    kind: str
    state: RunState
    attempt: int
    worker: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    """What the child last said of itself: ``done`` from 0 to 1, ``text``, ``eta_seconds``."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    """When a worker first claimed it."""
    finished_at: datetime | None = None
    result: dict[str, Any] = field(default_factory=dict)
