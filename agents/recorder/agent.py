"""The recorder's handlers: answers and feedback become rows, and examples are stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from agents.delivery.outcome import Outcome, Output
from agents.delivery.worker import Batch, Handlers
from agents.recorder.features import Fact, merge
from agents.recorder.ports import FeatureTable
from schemas.envelope import Received, derived_id
from schemas.features import Example, Interaction
from schemas.interactions import ExampleSubmitted, FeedbackGiven, InteractionRecorded
from schemas.questions import AnswerFailed, AnswerProduced


class Recorder:
    """Joins answers and feedback in the feature table."""

    def __init__(self, table: FeatureTable) -> None:
        self._table = table

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
        return [Outcome(effect=partial(_merge, received, rows)) for received in batch]

    async def record_example(self, received: Received[ExampleSubmitted]) -> Outcome:
        """Stores a labelled example."""
        return Outcome(effect=lambda: self._put_example(received))

    def _put_example(self, received: Received[ExampleSubmitted]) -> Sequence[Output]:
        event, context = received.event, received.context
        self._table.put_example(
            Example(
                example_id=derived_id(context.source, context.id),  # two sources may use the same event id
                task=event.task,
                input=event.input,
                output=event.output,
                origin=event.origin,
                submitted_at=context.time,
                golden=event.golden,
            )
        )
        return ()


class BatchRows:
    """Reads a batch's rows once per transaction instead of once per event.

    A transaction may be rolled back and its effects run again, also for half of the batch. So rows of an earlier
    transaction are forgotten: another worker may have changed them since.
    """

    def __init__(self, table: FeatureTable, answer_ids: Iterable[str]) -> None:
        self._table = table
        self._answer_ids = sorted(set(answer_ids))  # workers that lock rows in the same order cannot block each other
        self._transaction: object = None
        self._rows: dict[str, Interaction] = {}

    def find(self, answer_id: str) -> Interaction | None:
        """Inside a transaction: returns the row, with what this batch has put into it so far."""
        transaction = self._table.transaction()
        if transaction is not self._transaction:
            self._rows = dict(self._table.interactions(self._answer_ids))
            self._transaction = transaction
        return self._rows.get(answer_id)

    def put(self, row: Interaction) -> None:
        """Inside a transaction, after ``find``."""
        self._table.put_interaction(row)
        self._rows[row.answer_id] = row


def _merge(received: Received[Fact], rows: BatchRows) -> Sequence[Output]:
    row = merge(rows.find(received.event.answer_id), received)
    rows.put(row)
    # The event has the fact's own time, so that a later replay publishes the same event.
    return (Output(event=_recorded(row), time=received.context.time),)


def _recorded(row: Interaction) -> InteractionRecorded:
    return InteractionRecorded(
        answer_id=row.answer_id,
        task=row.task,
        adapter_id=row.adapter_id,
        arm=row.arm,
        outcome=row.outcome,
        revision=row.revision,
    )
