"""The recorder's handlers: answers and feedback become rows, and examples are stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import structlog

from agents.delivery.outcome import Outcome, Output
from agents.delivery.worker import Batch, Handlers
from agents.recorder.features import MOST_RATERS, Fact, Question, differences, merge
from agents.recorder.ports import FeatureTable
from agents.recorder.voices import Rules, key_of
from schemas.envelope import Received, derived_id
from schemas.errors import InvalidEvent
from schemas.features import Example, Interaction
from schemas.interactions import ExampleSubmitted, FeedbackGiven, InteractionRecorded
from schemas.questions import AnswerFailed, AnswerProduced
from schemas.words import composed

log = structlog.get_logger()


class Recorder:
    """Joins answers and feedback in the feature table."""

    def __init__(self, table: FeatureTable, rules: Rules = Rules()) -> None:  # noqa: B008  # it is frozen
        self._table, self._rules = table, rules

    def handlers(self) -> Handlers:
        record = Batch(self.record)
        return {
            AnswerProduced: record,
            AnswerFailed: record,
            FeedbackGiven: record,
            ExampleSubmitted: self.record_example,
        }

    async def record(self, batch: Sequence[Received[Fact]]) -> Sequence[Outcome]:
        """Merges answers and feedback into rows. The effects do everything, inside the journal's transaction."""
        rows = BatchRows(self._table, (received.event.answer_id for received in batch))
        return [Outcome(effect=partial(self._merge, received, rows)) for received in batch]

    async def record_example(self, received: Received[ExampleSubmitted]) -> Outcome:
        """Stores a labelled example."""
        return Outcome(effect=lambda: self._put_example(received))

    def _put_example(self, received: Received[ExampleSubmitted]) -> Sequence[Output]:
        event, context = received.event, received.context
        self._table.put_example(
            Example(
                example_id=derived_id(context.source, context.id),  # two sources may use the same event id
                task=event.task,
                input=composed(event.input),
                output=composed(event.output),
                origin=event.origin,
                submitted_at=context.time,
                golden=event.golden,
            )
        )
        return ()

    def _merge(self, received: Received[Fact], rows: BatchRows) -> Sequence[Output]:
        """Merges one fact. Raises InvalidEvent for an answer whose id belongs to another question."""
        known, fact = rows.find(received.event.answer_id), received.event
        if known is not None and not isinstance(fact, FeedbackGiven) and (differ := differences(known.row, fact)):
            if isinstance(fact, AnswerFailed):  # it says itself why there is no answer
                log.warning("answer id taken", answer=fact.answer_id, differ=differ)
                return ()
            raise InvalidEvent(taken(fact.answer_id, differ))
        question = merge(known, received, self._rules)
        rows.put(question, fact)
        if isinstance(fact, FeedbackGiven) and key_of(fact) not in question.words:
            log.warning("feedback not counted: the answer has too many raters", answer=fact.answer_id, most=MOST_RATERS)
        if question.row.has_unusable_correction and isinstance(fact, FeedbackGiven) and fact.correction is not None:
            log.warning("correction is no label of the task", answer=fact.answer_id, task=question.row.task)
        # The event has the fact's own time, so that a later replay publishes the same event.
        return (Output(event=_recorded(question.row), time=received.context.time),)


def taken(answer_id: str, differ: Sequence[str]) -> str:
    """Returns the message for an answer id that belongs to another question."""
    return (
        f"the id {answer_id!r} belongs to another question, of another {' and '.join(differ)}: give each question an "
        "id of its own, such as a UUID, and ask again"
    )


class BatchRows:
    """Reads a batch's rows once per transaction instead of once per event.

    A transaction may be rolled back and its effects run again, also for half of the batch. So rows of an earlier
    transaction are forgotten: another worker may have changed them since.
    """

    def __init__(self, table: FeatureTable, answer_ids: Iterable[str]) -> None:
        self._table = table
        self._answer_ids = sorted(set(answer_ids))  # workers that lock rows in the same order cannot block each other
        self._transaction: object = None
        self._questions: dict[str, Question] = {}

    def find(self, answer_id: str) -> Question | None:
        """Inside a transaction: returns the question, with what this batch has put into it so far."""
        transaction = self._table.transaction()
        if transaction is not self._transaction:
            rows = self._table.interactions(self._answer_ids)
            words = self._table.feedback([answer_id for answer_id, row in rows.items() if _may_be_rated(row)])
            self._questions = {
                answer_id: Question(
                    row=row, words={(each.source, each.rater): each for each in words.get(answer_id, ())}
                )
                for answer_id, row in rows.items()
            }
            self._transaction = transaction
        return self._questions.get(answer_id)

    def put(self, question: Question, fact: Fact) -> None:
        """Inside a transaction, after ``find``: writes the row, and the word that the fact has changed, if any."""
        self._table.put_interaction(question.row)
        if isinstance(fact, FeedbackGiven) and (word := question.words.get(key_of(fact))) is not None:
            self._table.put_feedback(word)
        self._questions[question.row.answer_id] = question


def _may_be_rated(row: Interaction) -> bool:
    """Whether there may be feedback on it. The first fact of most rows is their answer."""
    return row.revision > 1 or row.answer_stamp is None


def _recorded(row: Interaction) -> InteractionRecorded:
    return InteractionRecorded(
        answer_id=row.answer_id,
        task=row.task,
        adapter_id=row.adapter_id,
        arm=row.arm,
        outcome=row.outcome,
        revision=row.revision,
    )
