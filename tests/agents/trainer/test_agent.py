"""The trainer starts one training of a task at a time, and says why when it does not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agents.delivery.outcome import Output, RunRequest
from agents.delivery.worker import dispatcher
from agents.trainer.agent import Trainer
from agents.wiring.trainer import build
from infra.memory.database import MemoryDatabase
from infra.memory.runs import MemoryRunStore
from infra.settings import Settings
from schemas.delivery import Claim
from schemas.envelope import Position, Received, new_context
from schemas.errors import InvalidEvent
from schemas.event import Event
from schemas.learning import (
    AdapterTrained,
    DriftCheckRequested,
    DriftDetected,
    PromotionRequested,
    RollbackRequested,
    TrainingDeclined,
    TrainingRequested,
)
from schemas.questions import QuestionAsked
from schemas.tasks import Task, TaskFingerprint

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TASKS = {
    "routing": Task(name="routing", instruction="Which team?", metric="exact_match"),
    "chat": Task(name="chat", instruction="Talk."),
    "odd": Task(name="odd", instruction="Talk.", metric="vibes"),
}


class Room:
    def __init__(self) -> None:
        self.runs = MemoryRunStore(MemoryDatabase())
        self.trainer = Trainer(tasks=TASKS, metrics=["exact_match"], runs=self.runs, settings_location={"config": None})

    async def hear(self, event: Event, event_id: str = "cause-1") -> Sequence[Output | RunRequest]:
        received = Received(
            event=event, context=new_context("/test", now=NOW, event_id=event_id), position=Position("t", 0, 0)
        )
        (outcome,) = await dispatcher("trainer", self.trainer.handlers())([received])
        return [*outcome.outputs, *(outcome.effect() if outcome.effect is not None else ())]


@pytest.fixture
def room() -> Room:
    return Room()


def declined(outcome: Sequence[Output | RunRequest]) -> TrainingDeclined:
    (output,) = outcome
    assert isinstance(output, Output)
    assert isinstance(output.event, TrainingDeclined)
    return output.event


@pytest.mark.parametrize(
    "event",
    [TrainingRequested(task="routing"), DriftDetected(task="routing", kind="outcomes", remedy="retrain")],
)
async def test_drift_that_training_helps_and_requests_start_a_run_with_their_cause(room: Room, event: Event):
    (request,) = await room.hear(event)

    assert request == RunRequest(kind="train", arguments={"config": None, "task": "routing", "cause": "cause-1"})


@pytest.mark.parametrize(
    "event",
    [
        DriftDetected(task="routing", kind="questions", remedy="label"),
        DriftDetected(task="routing", kind="sources", remedy="index"),
        DriftCheckRequested(task="routing"),
        RollbackRequested(task="routing"),
        PromotionRequested(task="routing", adapter_id="a"),
    ],
)
async def test_what_no_training_helps_starts_none(room: Room, event: Event):
    assert await room.hear(event) == []


@pytest.mark.parametrize(
    ("task", "words"),
    [("cooking", "there is no task 'cooking'"), ("chat", "set metric to one of"), ("odd", "set metric to one of")],
)
async def test_a_task_that_cannot_be_trained_is_declined_with_the_reason(room: Room, task: str, words: str):
    event = declined(await room.hear(TrainingRequested(task=task)))

    assert words in event.reason
    assert event.cause == "cause-1"


async def test_while_a_training_of_the_task_is_under_way_no_other_begins(room: Room):
    room.runs.add("trainer", "r1", "train", {"task": "routing"}, {}, NOW)

    assert "r1" in declined(await room.hear(TrainingRequested(task="routing"))).reason

    room.runs.claim("trainer", "w", now=NOW, lease_seconds=10)
    assert "under way" in declined(await room.hear(TrainingRequested(task="routing"))).reason
    room.runs.finish("r1", 1, state="done", result={}, now=NOW)
    assert isinstance((await room.hear(TrainingRequested(task="routing")))[0], RunRequest)


async def test_another_agents_event_is_refused(room: Room):
    with pytest.raises(InvalidEvent, match="does not read"):
        await room.hear(QuestionAsked(question_id="q", task="routing", text="x"))


CLAIM = Claim(run_id="r1", kind="train", arguments={"task": "routing", "cause": "c1"}, context={}, attempt=1)


def test_an_adapter_is_told_with_its_lineage(room: Room):
    result = {"adapter_id": "a" * 32, "dataset_id": "d" * 32, "base_model": "smol"}

    (output,) = room.trainer.done(CLAIM, result).outputs

    assert output.event == AdapterTrained(
        task="routing", adapter_id="a" * 32, base_model="smol", dataset_id="d" * 32, run_id="r1", cause="c1"
    )
    fingerprint = TaskFingerprint(instruction="Which team?", labels=("returns",))
    (output,) = room.trainer.done(CLAIM, {**result, "fingerprint": fingerprint.model_dump(mode="json")}).outputs
    assert isinstance(output.event, AdapterTrained)
    assert output.event.fingerprint == fingerprint


def test_a_run_that_found_nothing_to_train_on_is_declined(room: Room):
    event = declined(list(room.trainer.done(CLAIM, {"declined": "3 rows"}).outputs))

    assert (event.reason, event.cause) == ("3 rows", "c1")


def test_a_run_that_failed_each_time_is_declined_with_its_last_words(room: Room):
    event = declined(list(room.trainer.failed(CLAIM, "exit code 1: no space left").outputs))

    assert "no space left" in event.reason


@pytest.mark.parametrize(
    "event",
    [TrainingRequested(task="routing"), DriftDetected(task="routing", kind="outcomes", remedy="retrain")],
)
def test_whoever_waits_for_a_training_that_is_given_up_is_told(event: Event, tmp_path: Path):
    told = build(Settings(home=tmp_path)).given_up[type(event)]
    context = new_context("/tests", now=NOW, event_id="cause-1")
    received = Received(event=event, context=context, position=Position("requests.v1", 0, 0))
    (output,) = told(received, "it broke")
    assert output.event == TrainingDeclined(task="routing", reason="it broke", cause="cause-1")
