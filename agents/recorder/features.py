"""Merges answers and feedback into a question's row, so that the row depends on the facts and not on their order.

The fields of an answer come from the answer with the greatest stamp, each field of a rater's word from the event with
the greatest stamp, times are minima and maxima, and facts are counted. All of these are commutative and associative, so
a replay, a late answer and early feedback lead to the same row. Two things depend on the order: an answer id belongs to
the question whose answer came first, and of very many raters of one answer only the first ones are heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents.recorder.voices import Rules, decided, heard, key_of, outcome_of, trust_of
from schemas.envelope import Received
from schemas.features import Feedback, Interaction, Stamp, rater_name, what_differs
from schemas.interactions import FeedbackGiven
from schemas.questions import AnswerFailed, AnswerProduced

Fact = AnswerProduced | AnswerFailed | FeedbackGiven
Words = Mapping[tuple[str, str], Feedback]
"""The word of each rater, by source and rater."""
MOST_RATERS: Final = 1000
"""The raters of one answer who are heard, of each class of trust. Each event about an answer reads all words on it, so
without a bound the time of an event would grow with the raters."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is recorded of a question: its row, and the word of each rater."""

    row: Interaction
    words: Words = field(default_factory=dict)


def merge(known: Question | None, received: Received[Fact], rules: Rules) -> Question:
    """Returns the question with one more fact. The journal makes sure that no fact comes twice."""
    fact = received.event
    known = known or Question(row=Interaction(answer_id=fact.answer_id))
    row, words = known.row, known.words
    if row.answer_id != fact.answer_id:
        raise ValueError(f"a fact of {fact.answer_id} does not belong in the row of {row.answer_id}")
    time = received.context.time
    stamp = Stamp(time=time, event=received.identity)
    if isinstance(fact, FeedbackGiven):
        key = key_of(fact)
        word = heard(words.get(key), fact, stamp)
        if key in words or not _is_full(row, words, word, rules):
            words = {**words, key: word}
    else:
        row = _with_answer(row, fact, stamp)
    given = decided(row, words.values(), rules) if words else {}
    row = replace(
        row,
        **given,
        outcome=outcome_of(row, given, rules.labels_of(row)),
        revision=row.revision + 1,
        first_event_at=time if row.first_event_at is None else min(row.first_event_at, time),
        last_event_at=time if row.last_event_at is None else max(row.last_event_at, time),
    )
    return Question(row=row, words=words)


def _is_full(row: Interaction, words: Words, word: Feedback, rules: Rules) -> bool:
    """Whether as many raters as are heard, whose word weighs as much, came before this one."""
    if len(words) < MOST_RATERS:
        return False
    trust = trust_of(word, row, rules.reviewers)
    return sum(trust_of(each, row, rules.reviewers) == trust for each in words.values()) >= MOST_RATERS


def differences(row: Interaction, answer: AnswerProduced | AnswerFailed) -> list[str]:
    """Names what of an answer's question is not the question of the row; none where the same person asks it again."""
    asker = rater_name(answer.user, answer.session)
    return what_differs(row, tenant=answer.tenant, asker=asker, task=answer.task, text=answer.question)


def _with_answer(row: Interaction, answer: AnswerProduced | AnswerFailed, stamp: Stamp) -> Interaction:
    """Takes every field from the later answer: a question that is asked twice under one id has two answers."""
    if row.answer_stamp is not None and stamp <= row.answer_stamp:
        return row
    # A new row instead of a changed one, so that nothing of the earlier answer remains.
    values: dict[str, Any] = {
        "answer_id": row.answer_id,
        "revision": row.revision,
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
