"""What the trainer needs from outside: rows, datasets, training, adapters on disk, and the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from schemas.datasets import DatasetManifest, DatasetRow, QuarantinedRow
from schemas.features import DocumentState, Example, Interaction
from schemas.generation import ChatMessage
from schemas.registry import AdapterRecord

TokenRow = tuple[list[int], list[int]]
"""The tokens of a prompt and the tokens of its answer. Only the answer is learned."""

OnProgress = Callable[[float, str, float | None], None]
"""Gets the share that is done, from 0 to 1, a text for the user, and the seconds that are left, if known."""


class FeatureRows(Protocol):
    """The feature table: users' feedback on answers, and the published examples."""

    def rated(self, task: str, limit: int, *, since: datetime | None = None) -> list[Interaction]:
        """Returns a task's approved and corrected answers, those that were recorded last first.

        ``since``: only answers to which something was recorded then or later.
        """
        ...

    def examples(self, task: str, limit: int, *, since: datetime | None = None, golden: bool = False) -> list[Example]:
        """Returns a task's examples, those that were recorded last first.

        ``since``: only those recorded then or later. ``golden``: those of the golden set, or all others.
        """
        ...

    def interactions(self, answer_ids: Sequence[str]) -> dict[str, Interaction]:
        """Returns the answers with these ids that are still stored."""
        ...


class Documents(Protocol):
    """The table of documents."""

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """Returns the states of the documents by tenant and id, withdrawn ones too; nothing of unknown ones."""
        ...


class EvaluationRows(Protocol):
    """The retention suite: rows that earlier adapters were judged on."""

    def rows(self, task: str, limit: int) -> list[DatasetRow]:
        """Returns at most ``limit`` rows of a task: a fair sample, which is the same each time."""
        ...


class Datasets(Protocol):
    """Snapshots of rows, each named by its content."""

    def put(
        self,
        task: str,
        rows: Sequence[DatasetRow],
        *,
        created_at: datetime,
        window_start: datetime | None = None,
        window_end: datetime | None = None,
        quarantined: Sequence[QuarantinedRow] = (),
    ) -> DatasetManifest:
        """Stores the rows as a dataset. The same rows are stored once. Raises Unavailable when the disk is full.

        ``quarantined``: the rows that were left out.
        """
        ...

    def manifest(self, dataset_id: str) -> DatasetManifest | None: ...

    def latest(self, task: str) -> DatasetManifest | None:
        """Returns the manifest of the task's newest dataset, whatever became of its adapter."""
        ...

    def rows(self, dataset_id: str) -> list[DatasetRow]:
        """Returns the rows in the order in which they were put. Raises AdapterMissing when they are gone."""
        ...


class TrainedAdapter(Protocol):
    """A trained adapter on disk, which has no id yet."""

    @property
    def folder(self) -> Path: ...

    @property
    def metrics(self) -> dict[str, float]:
        """The loss, the seconds, the tokens and the like, by name."""
        ...


class AdapterTraining(Protocol):
    """Trains adapters of the configured base model. Raises ModelMissing when the model cannot be loaded."""

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Returns the tokens of a prompt, up to where the answer begins."""
        ...

    def encode_answer(self, text: str) -> list[int]:
        """Returns the tokens of an answer, with the token that ends it."""
        ...

    def train(self, task: str, rows: Sequence[TokenRow], folder: Path, on_progress: OnProgress) -> TrainedAdapter:
        """Trains an adapter in the folder. Resumes from the last checkpoint there, with the same result.

        Raises EverlearnError when nothing was learned, Unavailable when the disk is full.
        """
        ...

    def remove_checkpoints(self, folder: Path) -> None: ...


class AdapterInstaller(Protocol):
    """Puts adapters where every worker finds them."""

    def install(self, folder: Path) -> tuple[str, int]:
        """Copies a trained adapter and returns its id, the hash of its content, and its size in bytes.

        Installing an adapter twice has no further effect. Raises Unavailable when the disk is full.
        """
        ...


class Registry(Protocol):
    """The registry of adapters. Each method raises Unavailable when it cannot be reached."""

    def adapters(self, task: str) -> list[AdapterRecord]:
        """Returns a task's adapters, newest first."""
        ...

    def log_training(self, record: AdapterRecord, params: dict[str, object], metrics: dict[str, float]) -> None:
        """Stores a training's parameters and measurements. Only the first call for a run has an effect."""
        ...

    def register(self, record: AdapterRecord) -> AdapterRecord:
        """Returns the record with its version. Registering an adapter twice has no further effect."""
        ...
