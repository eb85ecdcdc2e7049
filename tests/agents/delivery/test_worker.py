"""The table of handlers: each event reaches its handler, and events for other agents are skipped."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from agents.delivery.outcome import NOTHING, Outcome, Output
from agents.delivery.worker import Batch, Handlers, dispatcher
from schemas.envelope import Position, Received, new_context
from schemas.errors import InvalidEvent
from schemas.event import Event
from schemas.interactions import InteractionRecorded
from schemas.learning import AdapterRejected, AdapterValidated, RollbackRequested, TrainingRequested
from schemas.questions import QuestionAsked

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def received(event: Event) -> Received[Event]:
    return Received(event=event, context=new_context("/tests", now=NOW), position=Position("t", 0, 0))


def interaction(answer_id: str) -> InteractionRecorded:
    return InteractionRecorded(answer_id=answer_id, outcome="pending", revision=1)


class Calls:
    """Handlers that note their calls. The output of each outcome is the event itself."""

    def __init__(self) -> None:
        self.single: list[str] = []
        self.batches: list[list[str]] = []

    async def one(self, received: Received[Event]) -> Outcome:
        self.single.append(received.event.type)
        return Outcome(outputs=(Output(event=received.event),))

    async def many(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        self.batches.append([received.event.type for received in batch])
        return [Outcome(outputs=(Output(event=received.event),)) for received in batch]


def output_events(outcomes: Sequence[Outcome]) -> list[Event]:
    return [output.event for outcome in outcomes for output in outcome.outputs]


async def test_each_event_gets_the_outcome_of_its_own_handler_in_the_order_of_the_batch() -> None:
    calls = Calls()
    rated = Batch(calls.many)
    handlers: Handlers = {InteractionRecorded: rated, RollbackRequested: calls.one}
    events = [interaction("a"), RollbackRequested(task="x"), interaction("b")]
    outcomes = await dispatcher("promoter", handlers)([received(event) for event in events])
    assert output_events(outcomes) == events
    assert calls.single == [RollbackRequested.type]
    assert calls.batches == [[InteractionRecorded.type] * 2]


async def test_a_batch_handler_of_several_types_gets_all_of_them_in_one_call() -> None:
    calls = Calls()
    # Two references to the same bound method count as one handler.
    handlers: Handlers = {InteractionRecorded: Batch(calls.many), RollbackRequested: Batch(calls.many)}
    events = [interaction("a"), RollbackRequested(task="x"), interaction("b")]
    outcomes = await dispatcher("promoter", handlers)([received(event) for event in events])
    assert output_events(outcomes) == events
    assert calls.batches == [[event.type for event in events]]


async def test_an_event_of_a_shared_topic_for_another_agent_is_skipped() -> None:
    calls = Calls()
    batch = [received(TrainingRequested(task="x")), received(RollbackRequested(task="x"))]
    outcomes = await dispatcher("promoter", {RollbackRequested: calls.one})(batch)
    assert outcomes[0] is NOTHING
    assert calls.single == [RollbackRequested.type]


async def test_an_event_of_a_topic_that_the_agent_does_not_read_is_invalid() -> None:
    question = received(QuestionAsked(question_id="q", task="x", text="?"))
    with pytest.raises(InvalidEvent, match=r"the promoter does not read everlearn\.question\.asked\.v1: send it to"):
        await dispatcher("promoter", {AdapterValidated: Calls().one, AdapterRejected: Calls().one})([question])
