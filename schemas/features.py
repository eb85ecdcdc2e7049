"""Rows of the feature table: one a question, joined from its answer and what users said of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.interactions import InteractionOutcome, Rating
from schemas.questions import Arm


@dataclass(frozen=True, kw_only=True, order=True)
class Stamp:
    """When and by which event a field was last set; the greater stamp wins, whatever order they arrive in.

    ``event`` is ``Received.identity``: of two events at the same microsecond one must win everywhere.
    """

    time: datetime
    event: str


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """One question's row. Fields of the answer are None until it has arrived; those of feedback until there is some.

    ``revision`` is the number of facts merged. ``*_stamp`` decide between several feedbacks, and between several
    answers to a question that was asked twice under one id, by event time.
    """

    answer_id: str
    revision: int = 0
    outcome: InteractionOutcome = "pending"
    task: str | None = None
    tenant: str | None = None
    user: str | None = None
    session: str | None = None
    question: str | None = None
    answer: str | None = None
    failure: str | None = None
    sources: tuple[dict[str, Any], ...] = ()
    base_model: str | None = None
    engine: str | None = None
    adapter_id: str | None = None
    release_sequence: int | None = None
    arm: Arm | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    finish_reason: str | None = None
    declined: bool | None = None
    answered_at: datetime | None = None
    answer_stamp: Stamp | None = None
    rating: Rating | None = None
    rating_stamp: Stamp | None = None
    correction: str | None = None
    correction_stamp: Stamp | None = None
    reason: str | None = None
    reason_stamp: Stamp | None = None
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Example:
    """A labelled example, one row per event."""

    example_id: str
    task: str
    input: str
    output: str
    origin: str | None
    submitted_at: datetime


@dataclass(frozen=True, kw_only=True)
class DocumentState:
    """A document's current version as SQL knows it; ``withdrawn`` documents stay, so that late older versions lose."""

    tenant: str
    document_id: str
    version: str
    content_hash: str
    chunk_count: int
    embedding_model: str
    title: str | None
    uri: str | None
    submitted_at: datetime
    event_id: str
    withdrawn: bool = False
    next_chunk_count: int | None = None
    """In the index that is being built to serve next, if there is one."""
