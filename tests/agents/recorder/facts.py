"""Facts about one question, as they would be read from Kafka."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from schemas.envelope import EventContext, Position, Received
from schemas.event import Event
from schemas.interactions import FeedbackGiven, FeedbackSource, Rating
from schemas.questions import AnswerFailed, AnswerProduced, Source
from schemas.topics import TOPIC_OF

START = datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
_offsets = itertools.count()


def received(event: Event, *, at: float = 0.0, event_id: str, source: str = "/test") -> Received[Event]:
    """An event whose time is ``at`` seconds after the start."""
    return Received(
        event=event,
        context=EventContext(id=event_id, source=source, time=START + timedelta(seconds=at)),
        position=Position(topic=TOPIC_OF[type(event)].name, partition=0, offset=next(_offsets)),
    )


def answer(text: str = "30 days.", *, at: float = 1.0, event_id: str = "a", answer_id: str = "q-1") -> Received[Event]:
    produced = AnswerProduced(
        answer_id=answer_id,
        task="support",
        question="How long may I return shoes?",
        text=text,
        sources=(Source(document_id="17", chunk_id="17:0", score=0.5, text="30 days"),),
        user="user-8",
        adapter_id="lora-1",
        arm="challenger",
        base_model="smollm2",
        engine="transformers",
        prompt_tokens=20,
        completion_tokens=4,
        latency_ms=120.0,
    )
    return received(produced, at=at, event_id=event_id)


def failure(*, at: float = 1.0, event_id: str = "f", answer_id: str = "q-1") -> Received[Event]:
    failed = AnswerFailed(
        answer_id=answer_id,
        task="support",
        question="How long may I return shoes?",
        user="user-8",
        reason="the deadline had passed",
    )
    return received(failed, at=at, event_id=event_id)


def feedback(
    rating: Rating | None = None,
    *,
    correction: str | None = None,
    reason: str | None = None,
    at: float = 2.0,
    event_id: str = "b",
    answer_id: str = "q-1",
    user: str | None = "user-8",
    session: str | None = None,
    source: FeedbackSource | None = None,
    retract: bool = False,
) -> Received[Event]:
    """Feedback of the user who asked, unless another one is named."""
    given = FeedbackGiven(
        answer_id=answer_id,
        rating=rating,
        correction=correction,
        reason=reason,
        user=user,
        session=session,
        source=source,
        retract=retract,
    )
    return received(given, at=at, event_id=event_id)
