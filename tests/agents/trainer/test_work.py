"""What a training does, on memory twins: which rows it trains on, what it registers, and how it waits and resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.delivery.progress import read_progress
from agents.prompt import build_prompt
from agents.trainer.ports import OnProgress, TokenRow
from agents.trainer.work import Training, TrainingParts
from infra.memory.database import MemoryDatabase
from infra.memory.datasets import MemoryDatasets
from infra.memory.documents import MemoryDocuments
from infra.memory.features import MemoryFeatureTable
from infra.memory.registry import MemoryRegistry
from infra.memory.retention import MemoryRetention
from schemas.errors import Unavailable
from schemas.features import Example, Interaction, Stamp
from schemas.generation import ChatMessage
from schemas.policies import TrainerPolicy
from schemas.tasks import Task, TaskFingerprint, fingerprint_of

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TASK = Task(name="routing", instruction="Which team?", metric="exact_match", labels=("returns", "delivery"))
CONTEXT_TOKENS = 400
POLICY = TrainerPolicy(replay_share=0.25, holdout_share=0.2, minimum_rows=4)


@dataclass(frozen=True)
class Trained:
    folder: Path
    metrics: dict[str, float]


@dataclass
class CharacterTraining:
    """Encodes a text as its characters, and keeps the rows that it was given to train on."""

    rows: list[TokenRow] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    progress: dict[str, object] = field(default_factory=dict)
    """What the run's folder said in the middle of the training."""

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        return [ord(each) for message in messages for each in message.content]

    def encode_answer(self, text: str) -> list[int]:
        return [*(ord(each) for each in text), 0]

    def train(self, task: str, rows: Sequence[TokenRow], folder: Path, on_progress: OnProgress) -> Trained:
        self.rows = list(rows)
        on_progress(0.5, "training: step 1 of 2", 3.0)
        self.progress = read_progress(folder)
        return Trained(folder / "adapter", {"loss": 0.5})

    def remove_checkpoints(self, folder: Path) -> None:
        self.removed.append(folder)


@dataclass
class FullDisk:
    """Has no room for an adapter the first time."""

    tried: int = 0

    def install(self, folder: Path) -> tuple[str, int]:
        self.tried += 1
        if self.tried == 1:
            raise Unavailable("the disk is full: make room")
        return "a1", 7


class Room:
    def __init__(self, folder: Path) -> None:
        database = MemoryDatabase()
        self.folder = folder
        self.features = MemoryFeatureTable(database)
        self.documents, self.suite = MemoryDocuments(database), MemoryRetention(database)
        self.datasets = MemoryDatasets(database)
        self.registry = MemoryRegistry()
        self.training, self.disk = CharacterTraining(), FullDisk()
        self.waited: list[float] = []

    def publish(self, count: int, minutes: float = 0.0) -> None:
        for number in range(count):
            self.features.put_example(
                Example(
                    example_id=f"e{number}-{minutes}", task="routing", input=f"message {number} at {minutes}",
                    output=TASK.labels[number % 2], origin=None, submitted_at=NOW + timedelta(minutes=minutes),
                )
            )  # fmt: skip

    def correct(self, user: str, number: int) -> None:
        self.features.put_interaction(
            Interaction(
                answer_id=f"{user} {number}", outcome="corrected", task="routing", user=user,
                question=f"{user} asks {number}", answer="skates", correction=TASK.labels[number % 2],
                correction_stamp=Stamp(time=NOW + timedelta(hours=number), event=f"{user} {number}"),
                corrected_by=user, correction_trust="owner",
            )
        )  # fmt: skip

    def train(
        self, *, max_tokens: int = 500, fingerprint: TaskFingerprint | None = None, **policy: object
    ) -> dict[str, object]:
        return Training(
            task=TASK,
            cause="drift-1",
            folder=self.folder,
            parts=TrainingParts(
                features=self.features,
                documents=self.documents,
                suite=self.suite,
                secret=lambda: "s",
                datasets=self.datasets,
                training=self.training,
                installer=self.disk,
                registry=self.registry,
                now=lambda: NOW,
                sleep=self._sleep,
            ),
            policy=POLICY.model_copy(update={"max_tokens": max_tokens, **policy}),
            context_tokens=CONTEXT_TOKENS,
            base_model="smol",
            fingerprint=fingerprint,
        ).run()

    def _sleep(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.registry.away = False


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_training_registers_its_adapter_with_its_cause_and_parameters(room: Room):
    room.publish(30)

    result = room.train()

    assert result == {"adapter_id": "a1", "dataset_id": result["dataset_id"], "base_model": "smol"}
    record = room.registry.find("a1")
    assert record is not None
    assert (record.cause, record.run_id, record.size_bytes, record.metrics) == (
        "drift-1", room.folder.name, 7, {"loss": 0.5},
    )  # fmt: skip
    policy = POLICY.model_copy(update={"max_tokens": 500}).model_dump()
    assert room.registry.trainings[room.folder.name].params == {**policy, "rows": len(room.training.rows)}
    assert room.training.removed == [room.folder]


def test_one_users_many_corrections_do_not_hide_those_of_others(room: Room):
    for number in range(10):
        room.correct(f"u{number}", number)
    for number in range(40):
        room.correct("mal", number)

    room.train(window_rows=20)

    (manifest,) = room.datasets.recent("routing", 10)
    assert {f"u{number}" for number in range(10)} < set(manifest.by_user)
    assert manifest.by_user["mal"] <= 4, "a fifth, as one of eleven"


def test_an_adapter_carries_the_task_that_it_was_trained_on(room: Room):
    room.publish(30)
    fingerprint = fingerprint_of(TASK, prompt_format=1, engine="transformers 5.0")

    result = room.train(fingerprint=fingerprint)

    assert result["fingerprint"] == fingerprint.model_dump(mode="json")
    record = room.registry.find("a1")
    assert record is not None
    assert (record.trained_as, record.validated_as) == (fingerprint, None)


def test_the_model_is_trained_on_the_answerers_prompts_and_never_on_a_held_out_row(room: Room):
    room.publish(30)

    room.train()

    trained = ["".join(map(chr, prompt)) for prompt, _ in room.training.rows]
    manifest = room.datasets.latest("routing")
    assert manifest is not None
    wanted = [row.input for row in room.datasets.rows(manifest.dataset_id) if row.split == "train"]
    assert len(wanted) == 24
    assert sorted(trained) == sorted(
        "".join(
            message.content for message in build_prompt(TASK, each, (), (), budget=CONTEXT_TOKENS, count=len).messages
        )
        for each in wanted
    )


def test_a_full_disk_and_a_registry_that_is_away_are_waited_for_and_the_training_is_not_repeated(room: Room):
    room.publish(30)
    room.registry.away = True

    assert "adapter_id" in room.train()

    assert len(room.waited) == 2
    assert room.disk.tried == 2


def test_an_interrupted_run_keeps_the_dataset_that_it_began_with(room: Room):
    room.publish(30)
    begun = room.train()["dataset_id"]
    room.publish(9, minutes=1)

    assert room.train()["dataset_id"] == begun


def test_rows_that_are_too_long_for_the_model_are_declined_before_anything_is_kept(room: Room):
    room.publish(30)

    reason = room.train(max_tokens=10)["declined"]

    assert "too long" in str(reason)
    assert room.datasets.latest("routing") is None
    assert room.training.rows == []


def test_a_row_that_the_answerer_would_refuse_is_left_out_and_the_registry_says_how_many(room: Room):
    room.publish(30)
    room.features.put_example(
        Example(example_id="long", task="routing", input="why " * 100, output="returns", origin=None, submitted_at=NOW)
    )

    room.train(max_tokens=5000)

    assert max(len(prompt) for prompt, _ in room.training.rows) <= CONTEXT_TOKENS
    assert room.registry.trainings[room.folder.name].params["left_out"] == "1 too long"


def test_the_steps_of_the_training_are_the_middle_of_the_runs_progress(room: Room):
    room.publish(30)

    room.train()

    assert room.training.progress == {"done": 0.51, "text": "training: step 1 of 2", "eta_seconds": 3.0}
    assert read_progress(room.folder)["done"] == 0.94
