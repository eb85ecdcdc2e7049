"""The recorder's handler: answers and feedback become rows, examples become examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from agents.delivery.outcome import Outcome, Output
from agents.delivery.worker import Batch, Handlers
from agents.recorder.features import Fact, merge
from agents.recorder.ports import FeatureTable
from agents.recorder.rows import BatchRows
from schemas.envelope import Received, derived_id
from schemas.features import Example, Interaction
from schemas.interactions import ExampleSubmitted, FeedbackGiven, InteractionRecorded
from schemas.questions import AnswerFailed, AnswerProduced


class Recorder:
    """Joins what arrives into the feature table."""

    def __init__(self, table: FeatureTable) -> None:
        self._table = table

    def handlers(self) -> Handlers:
        record = Batch(self.record)
        return {
            AnswerProduced: record,
            AnswerFailed: record,
            FeedbackGiven: record,
            ExampleSubmitted: self.keep_example,
        }

    async def record(self, batch: Sequence[Received[Fact]]) -> Sequence[Outcome]:
        """Merges answers and feedback into rows. The effects do it all, inside the journal's transaction."""
        rows = BatchRows(self._table, (received.event.answer_id for received in batch))
        return [Outcome(effect=partial(_merge, received, rows)) for received in batch]

    async def keep_example(self, received: Received[ExampleSubmitted]) -> Outcome:
        return Outcome(effect=lambda: self._keep(received))

    def _keep(self, received: Received[ExampleSubmitted]) -> Sequence[Output]:
        event, context = received.event, received.context
        self._table.put_example(
            Example(
                example_id=derived_id(context.source, context.id),  # two sources may use one id
                task=event.task,
                input=event.input,
                output=event.output,
                origin=event.origin,
                submitted_at=context.time,
            )
        )
        return ()


def _merge(received: Received[Fact], rows: BatchRows) -> Sequence[Output]:
    row = merge(rows.find(received.event.answer_id), received)
    rows.put(row)
    # The fact's own time: a replay years later says the same as the first run.
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
