"""Asks questions through Kafka and gives the answers in the order of the questions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

from agents.cli.indexing import Reader
from agents.cli.sending import SOURCE, now
from schemas.envelope import MalformedRecord, Record, decode, encode, new_context
from schemas.errors import EverlearnError
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked

Answer = AnswerProduced | AnswerFailed
POLL_SECONDS = 0.5


class Sender(Protocol):
    """Sends records and returns once Kafka has confirmed them; raises Unavailable when it does not."""

    def publish(self, records: Sequence[Record]) -> object: ...


class Unanswered(EverlearnError):
    """Nobody answered in time."""


def converse(
    sender: Sender,
    reader: Reader,
    questions: Sequence[QuestionAsked],
    *,
    patience_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Answer]:
    """All questions at once; their answers in order, each as soon as those before it have come.

    ``reader`` must have been positioned at the end of the answers before. When nothing comes for so long, the answers
    that are there are given, and then Unanswered is raised.
    """
    waiting: dict[str, str] = {}
    records = []
    for question in questions:
        context = new_context(SOURCE, now=now())
        waiting[question.question_id] = context.id
        records.append(encode(question, context))
    sender.publish(records)
    arrived: dict[str, Answer] = {}
    following = iter(questions)
    current = next(following, None)
    deadline = clock() + patience_seconds
    while waiting and clock() < deadline:
        for answer in _answers_to(waiting, reader):
            arrived[answer.answer_id] = answer
            deadline = clock() + patience_seconds
        while current is not None and current.question_id in arrived:
            yield arrived.pop(current.question_id)
            current = next(following, None)
    for question in [current, *following] if current is not None else ():
        if question.question_id in arrived:
            yield arrived.pop(question.question_id)
    if waiting:
        raise Unanswered(_describe(list(waiting), len(questions), patience_seconds))


def _answers_to(waiting: dict[str, str], reader: Reader) -> Iterator[Answer]:
    for record in reader.poll(POLL_SECONDS):
        try:
            event, context = decode(record.position.topic, record.value, record.headers, now=datetime.now(UTC))
        except MalformedRecord:
            continue  # somebody else's record; 'tail' shows what is wrong with it
        if not isinstance(event, AnswerProduced | AnswerFailed) or event.answer_id not in waiting:
            continue
        # The same id may have been asked before, and that answer still be on its way.
        if context.causation_id in (None, waiting[event.answer_id]):
            del waiting[event.answer_id]
            yield event


def _describe(missing: list[str], total: int, patience_seconds: float) -> str:
    what = f"the question {missing[0]} was" if total == 1 else f"{len(missing):,} of {total:,} questions were"
    return (
        f"{what} not answered, and nothing came for {patience_seconds:g} s: see with 'everlearn status' whether an "
        "answerer is ready and with 'everlearn dlq list' whether it gave up, or wait longer with --timeout"
    )
