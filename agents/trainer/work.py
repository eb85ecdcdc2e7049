"""Does a training in a child process: chooses rows, trains an adapter on them, and registers the adapter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import structlog

from agents.delivery.atomic_write import write_atomically
from agents.delivery.progress import write_progress
from agents.delivery.retrying import retry_while_unavailable
from agents.prompt import build_row_prompt
from agents.trainer.candidates import in_turn
from agents.trainer.dataset import Pool, Selection, counted_reasons, reason_to_decline, select, too_few_golden
from agents.trainer.ports import (
    AdapterInstaller,
    AdapterTraining,
    Datasets,
    Documents,
    EvaluationRows,
    FeatureRows,
    Registry,
    TokenRow,
    TrainedAdapter,
)
from schemas.datasets import DatasetManifest, DatasetRow
from schemas.errors import AdapterMissing
from schemas.event import JsonObject
from schemas.figures import finite
from schemas.policies import TrainerPolicy
from schemas.registry import AdapterRecord
from schemas.tasks import Task, TaskFingerprint

log = structlog.get_logger()

T = TypeVar("T")
CHAMPION = "champion"
OVERLAP = timedelta(hours=1)
"""A row that arrived so long before the champion's dataset was made may be new: clocks differ, and writes take time."""
MOST_JUDGED = 5000
"""The rows of the retention suite that new rows are compared with."""
MOST_READ = 5
"""The rated answers that are read for each that may be chosen, so that one rater's many do not hide those of others."""
_TRAINING_BEGINS, _TRAINING_ENDS = 0.08, 0.94
"""The part of a run's progress that the training itself takes: from this share to that one."""


@dataclass(frozen=True, kw_only=True)
class TrainingParts:
    """What a training works with. ``secret`` gives the home's, by which rows are held out. ``sleep`` gets seconds."""

    features: FeatureRows
    documents: Documents
    suite: EvaluationRows
    datasets: Datasets
    training: AdapterTraining
    installer: AdapterInstaller
    registry: Registry
    secret: Callable[[], str]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training run."""

    task: Task
    cause: str
    """The id of the event that asked for the training."""
    folder: Path
    """The folder of the run. Its name is the run's id. An interrupted run resumes from what is in it."""
    parts: TrainingParts
    policy: TrainerPolicy
    context_tokens: int
    """The most tokens of a prompt, the same as the answerer's."""
    base_model: str
    fingerprint: TaskFingerprint | None = None
    """The task as it is now; it goes with the adapter."""
    _left_out: dict[str, int] = field(init=False, default_factory=dict)
    """How many rows were left out, by reason; empty in a run that resumes with the dataset it began with."""

    def run(self) -> JsonObject:
        """Returns adapter_id, dataset_id and base_model; or ``declined``, the reason why nothing was trained."""
        write_progress(self.folder, 0.0, "choosing the rows")
        dataset = self._retry(self._dataset)
        if isinstance(dataset, str):
            return {"declined": dataset}
        rows = self.parts.datasets.rows(dataset.dataset_id)
        write_progress(self.folder, 0.03, "loading the base model")
        token_rows = [self._encode(row)[0] for row in rows if row.split == "train"]
        trained = self.parts.training.train(self.task.name, token_rows, self.folder, self._report_step)
        write_progress(self.folder, _TRAINING_ENDS, "registering the adapter")
        adapter_id = self._register(dataset, trained)
        self.parts.training.remove_checkpoints(self.folder)
        return {
            "adapter_id": adapter_id,
            "dataset_id": dataset.dataset_id,
            "base_model": self.base_model,
            **({"fingerprint": self.fingerprint.model_dump(mode="json")} if self.fingerprint is not None else {}),
        }

    def _dataset(self) -> DatasetManifest | str:
        """Returns the snapshot to train on, or why there is none. An interrupted run keeps the one it began with."""
        begun_with = self.folder / "dataset"
        if begun_with.is_file():
            known = self.parts.datasets.manifest(begun_with.read_text())
            if known is not None:
                return known
        selection = self._select()
        reason = reason_to_decline(selection, self.task, self.policy)
        if reason is None:
            # Counting tokens imports libraries, which takes seconds. Most reasons to decline need no token counts.
            selection = selection.only(self._fits)
            reason = reason_to_decline(selection, self.task, self.policy)
        if reason is not None:
            return reason
        if selection.left_out:
            self._left_out.update(selection.left_out)
            log.warning("rows left out", task=self.task.name, rows=counted_reasons(selection.left_out))
        if 0 < selection.golden < self.policy.minimum_golden:
            log.warning(
                "golden set not used", task=self.task.name, reason=too_few_golden(selection.golden, self.policy)
            )
        start, end = selection.window or (None, None)
        manifest = self.parts.datasets.put(
            self.task.name,
            selection.rows,
            created_at=self.parts.now(),
            window_start=start,
            window_end=end,
            quarantined=selection.quarantined,
        )
        known_adapters = self.parts.registry.adapters(self.task.name)
        if any(each.dataset_id == manifest.dataset_id and not _may_be_made_again(each) for each in known_adapters):
            return (
                f"nothing new since {manifest.created_at:%Y-%m-%d %H:%M} UTC, when dataset {manifest.dataset_id} was "
                "trained on: collect corrections or publish examples"
            )
        write_atomically(begun_with, manifest.dataset_id)
        return manifest

    def _select(self) -> Selection:
        pool = self._pool()
        documents = pool.documents(self.task) if self.task.retrieval else []
        states = self.parts.documents.current(documents)
        # A document that SQL does not know was never submitted here, or its row is of an older home: it may stay.
        withdrawn = frozenset(key for key, state in states.items() if state.withdrawn)
        return select(self.task, pool, self.policy, secret=self.parts.secret(), withdrawn=withdrawn)

    def _pool(self) -> Pool:
        features, task, limit = self.parts.features, self.task.name, self.policy.window_rows
        adapters = self.parts.registry.adapters(task)
        champion = next((each for each in adapters if CHAMPION in each.aliases), None)
        learned = self.parts.datasets.manifest(champion.dataset_id) if champion is not None else None
        rows = self._rows_of(learned) if learned is not None else []
        if not rows:
            learned = None  # what the champion was trained on is lost, so all that is stored is chosen from again
        since = learned.created_at - OVERLAP if learned is not None else None
        latest = self.parts.datasets.latest(task)
        held_out = self.parts.suite.rows(task, MOST_JUDGED)
        if latest is not None and (learned is None or latest.dataset_id != learned.dataset_id):
            held_out += self._rows_of(latest)
        return Pool(
            interactions=in_turn(features.rated(task, MOST_READ * limit, since=since), limit),
            examples=features.examples(task, limit, since=since),
            golden=features.examples(task, limit, golden=True),
            learned=rows,
            learned_at=learned.created_at if learned is not None else None,
            held_out=held_out,
            answers=features.interactions([row.origin_id for row in rows if row.origin != "example"]),
        )

    def _rows_of(self, dataset: DatasetManifest) -> list[DatasetRow]:
        """Returns the rows of an earlier dataset, or none where its files are gone."""
        try:
            return self.parts.datasets.rows(dataset.dataset_id)
        except AdapterMissing as error:
            log.warning("an earlier dataset is lost", dataset=dataset.dataset_id, reason=str(error))
            return []

    def _fits(self, row: DatasetRow) -> bool:
        (prompt, answer), asked = self._encode(row)
        return asked and len(prompt) + len(answer) <= self.policy.max_tokens

    def _encode(self, row: DatasetRow) -> tuple[TokenRow, bool]:
        """Encodes a row as the answerer would ask it, so that the adapter is trained on the prompts it will get.

        Also returns whether the answerer would ask it at all, or refuse it as too long.
        """
        encode = self.parts.training.encode
        prompt = build_row_prompt(
            self.task, row, budget=self.context_tokens, count=lambda messages: len(encode(messages))
        )
        return (encode(prompt.messages), self.parts.training.encode_answer(row.output)), prompt.fits

    def _register(self, dataset: DatasetManifest, trained: TrainedAdapter) -> str:
        adapter_id, size_bytes = self._retry(lambda: self.parts.installer.install(trained.folder))
        record = AdapterRecord(
            adapter_id=adapter_id,
            task=self.task.name,
            base_model=self.base_model,
            dataset_id=dataset.dataset_id,
            run_id=self.folder.name,
            cause=self.cause,
            size_bytes=size_bytes,
            created_at=self.parts.now(),
            metrics=finite(trained.metrics),
            trained_as=self.fingerprint,
        )
        parameters = {**self.policy.model_dump(), "rows": dataset.train_rows}
        if self._left_out:
            parameters["left_out"] = counted_reasons(self._left_out)
        self._retry(lambda: self.parts.registry.log_training(record, parameters, trained.metrics))
        self._retry(lambda: self.parts.registry.register(record))
        return adapter_id

    def _report_step(self, done: float, text: str, seconds_left: float | None) -> None:
        share = _TRAINING_BEGINS + done * (_TRAINING_ENDS - _TRAINING_BEGINS)
        write_progress(self.folder, share, text, eta_seconds=seconds_left)

    def _retry(self, action: Callable[[], T]) -> T:
        return retry_while_unavailable(action, self.folder, self.parts.sleep)


def _may_be_made_again(record: AdapterRecord) -> bool:
    """Whether the adapter's files were deleted, and it was not rejected: the same rows would be rejected again."""
    return record.removed_at is not None and record.state != "rejected"
