"""Merges answers and feedback into a question's row, so that the row depends on the facts and not on their order.

Each field comes from the fact with the greatest stamp, times are minima and maxima, and facts are counted. All of these
are commutative and associative, so a replay, a late answer and early feedback lead to the same row.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from schemas.envelope import Received
from schemas.features import Interaction, Stamp
from schemas.interactions import FeedbackGiven, InteractionOutcome
from schemas.questions import AnswerFailed, AnswerProduced

Fact = AnswerProduced | AnswerFailed | FeedbackGiven


def merge(row: Interaction | None, received: Received[Fact]) -> Interaction:
    """Returns the row with one more fact. The journal makes sure that no fact comes twice."""
    fact = received.event
    row = row or Interaction(answer_id=fact.answer_id)
    if row.answer_id != fact.answer_id:
        raise ValueError(f"a fact of {fact.answer_id} does not belong in the row of {row.answer_id}")
    time = received.context.time
    stamp = Stamp(time=time, event=received.identity)
    row = _with_feedback(row, fact, stamp) if isinstance(fact, FeedbackGiven) else _with_answer(row, fact, stamp)
    return replace(
        row,
        outcome=outcome_of(row),
        revision=row.revision + 1,
        first_event_at=_least(row.first_event_at, time),
        last_event_at=time if row.last_event_at is None else max(row.last_event_at, time),
    )


def outcome_of(row: Interaction) -> InteractionOutcome:
    """Returns the outcome of a question, as far as it is known."""
    if row.answer_stamp is None:
        return "pending"
    if row.failure is not None:
        return "failed"
    if row.correction is not None:
        return "corrected"
    if row.rating is None:
        return "unrated"
    return "approved" if row.rating == "up" else "disapproved"


def _with_answer(row: Interaction, answer: AnswerProduced | AnswerFailed, stamp: Stamp) -> Interaction:
    """Takes every field from the later answer: a question that is asked twice under one id has two answers."""
    if not _is_later(stamp, row.answer_stamp):
        return row
    # A new row instead of a changed one, so that nothing of the earlier answer remains.
    values: dict[str, Any] = {
        "answer_id": row.answer_id,
        "revision": row.revision,
        "rating": row.rating,
        "rating_stamp": row.rating_stamp,
        "correction": row.correction,
        "correction_stamp": row.correction_stamp,
        "reason": row.reason,
        "reason_stamp": row.reason_stamp,
        "first_event_at": row.first_event_at,
        "last_event_at": row.last_event_at,
        "task": answer.task,
        "tenant": answer.tenant,
        "user": answer.user,
        "session": answer.session,
        "question": answer.question,
        "history": answer.history,
        "adapter_id": answer.adapter_id,
        "release_sequence": answer.release_sequence,
        "arm": answer.arm,
        "latency_ms": answer.latency_ms,
        "answered_at": stamp.time,
        "answer_stamp": stamp,
    }
    if isinstance(answer, AnswerFailed):
        return Interaction(**values, failure=answer.reason)
    return Interaction(
        **values,
        answer=answer.text,
        sources=tuple(source.model_dump(mode="json") for source in answer.sources),
        base_model=answer.base_model,
        engine=answer.engine,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        finish_reason=answer.finish_reason,
        declined=answer.declined,
    )


def _with_feedback(row: Interaction, feedback: FeedbackGiven, stamp: Stamp) -> Interaction:
    """Takes rating, correction and reason independently: a later rating does not erase an earlier correction."""
    if feedback.rating is not None and _is_later(stamp, row.rating_stamp):
        row = replace(row, rating=feedback.rating, rating_stamp=stamp)
    if feedback.correction is not None and _is_later(stamp, row.correction_stamp):
        row = replace(row, correction=feedback.correction, correction_stamp=stamp)
    if feedback.reason is not None and _is_later(stamp, row.reason_stamp):
        row = replace(row, reason=feedback.reason, reason_stamp=stamp)
    return row


def _is_later(stamp: Stamp, than: Stamp | None) -> bool:
    return than is None or stamp > than


def _least(earlier: datetime | None, time: datetime) -> datetime:
    return time if earlier is None else min(earlier, time)
