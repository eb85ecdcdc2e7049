"""A training run's child process: a dataset from the feature table, an adapter from the dataset, a registry entry."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.delivery.progress import write_progress
from agents.prompt import build_prompt, hit_of
from agents.trainer.dataset import DatasetPolicy, Selection, fault, select
from agents.wiring.children import patiently, settings_of
from infra.adapters.files import Card, install, size_of, write_card
from infra.adapters.integrity import identity_of
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.training.datasets import FolderDatasets
from schemas.datasets import DatasetManifest, DatasetRow
from schemas.errors import ConfigurationError
from schemas.registry import AdapterRecord
from schemas.tasks import Task

if TYPE_CHECKING:
    from infra.training.batches import Row
    from infra.training.lora import Trained

_TRAINING = (0.08, 0.94)
"""The part of the whole that the steps are."""


def run(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``arguments``: config, task, cause. ``folder``: the run's, in which an interrupted training goes on.

    Gives adapter_id, dataset_id and base_model; or declined, a reason.
    """
    settings = settings_of(arguments, folder)
    task = settings.tasks.get(arguments["task"])
    if task is None:
        raise ConfigurationError(f"there is no task {arguments['task']}: add it to everlearn.toml")
    write_progress(folder, 0.0, "choosing the rows")
    registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
    database = Database(settings.sql_url())
    try:
        datasets = FolderDatasets(settings.datasets_folder, database)
        chosen = patiently(lambda: _dataset(settings, task, database, datasets, registry, folder))
        if isinstance(chosen, str):
            return {"declined": chosen}
        rows = datasets.rows(chosen.dataset_id)
    finally:
        database.close()
    write_progress(folder, 0.03, "loading the base model")
    trained, card = _train(settings, task, rows, folder)
    write_progress(folder, _TRAINING[1], "registering the adapter")
    write_card(trained.folder, card)
    # Minutes of work are not given up because the registry or the disk is away for a while.
    adapter_id, place = patiently(lambda: install(trained.folder, settings.adapters_folder))
    record = AdapterRecord(
        adapter_id=adapter_id,
        task=task.name,
        base_model=settings.model.base,
        dataset_id=chosen.dataset_id,
        run_id=folder.name,
        cause=arguments["cause"],
        size_bytes=size_of(place),
        created_at=datetime.now(UTC),
        metrics=trained.metrics,
    )
    parameters = {**settings.trainer.model_dump(), "rows": chosen.train_rows}
    patiently(lambda: registry.log_training(record, parameters, trained.metrics))
    patiently(lambda: registry.register(record))
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint, ignore_errors=True)
    return {"adapter_id": adapter_id, "dataset_id": chosen.dataset_id, "base_model": settings.model.base}


def _dataset(
    settings: Settings,
    task: Task,
    database: Database,
    datasets: FolderDatasets,
    registry: MlflowRegistry,
    folder: Path,
) -> DatasetManifest | str:
    """The snapshot to train on, or why there is none. An interrupted run goes on with the one that it had."""
    remembered = folder / "dataset"
    if remembered.is_file():
        known = datasets.manifest(remembered.read_text())
        if known is not None:
            return known
    selection, policy = _select(settings, task, database, datasets, registry)
    reason = fault(selection, task, policy)
    if reason is None:
        # Counting tokens takes libraries that take seconds to import, and most reasons are found without.
        selection = selection.only(_fits(settings, task))
        reason = fault(selection, task, policy)
    if reason is not None:
        return reason
    start, end = selection.window or (None, None)
    manifest = datasets.put(task.name, selection.rows, created_at=datetime.now(UTC), window_start=start, window_end=end)
    if any(record.dataset_id == manifest.dataset_id for record in registry.adapters(task.name)):
        return (
            f"nothing new since {manifest.created_at:%Y-%m-%d %H:%M} UTC, when dataset {manifest.dataset_id} was "
            "trained on: collect corrections or publish examples"
        )
    part = remembered.with_suffix(".part")
    part.write_text(manifest.dataset_id)
    part.replace(remembered)
    return manifest


def _select(
    settings: Settings, task: Task, database: Database, datasets: FolderDatasets, registry: MlflowRegistry
) -> tuple[Selection, DatasetPolicy]:
    wanted = settings.trainer
    policy = DatasetPolicy(
        replay_share=wanted.replay_share, holdout_share=wanted.holdout_share, minimum_rows=wanted.minimum_rows
    )
    features = SqlFeatureTable(database)
    validated = next((each for each in registry.adapters(task.name) if each.state == "validated"), None)
    learned = datasets.manifest(validated.dataset_id) if validated is not None else None
    until, most = learned.window_end if learned is not None else None, wanted.window_rows
    rated = features.rated(task.name, most)
    examples = features.examples(task.name, most)
    if until is not None:  # there may be more news than the window takes, and still something must be replayed
        rated += features.rated(task.name, most, until=until)
        examples += features.examples(task.name, most, until=until)
    return select(
        task,
        {row.answer_id: row for row in rated}.values(),
        {row.example_id: row for row in examples}.values(),
        policy,
        learned_until=until,
    ), policy


def _fits(settings: Settings, task: Task) -> Callable[[DatasetRow], bool]:
    from infra.models.chat import ChatFormat
    from infra.models.loading import load_tokenizer

    chat = ChatFormat(load_tokenizer(settings))
    return lambda row: len(_encode(settings, task, row, chat)) <= settings.trainer.max_tokens


def _train(settings: Settings, task: Task, rows: Sequence[DatasetRow], folder: Path) -> tuple[Trained, Card]:
    """The adapter, and what it is for."""
    from infra.models.chat import ChatFormat
    from infra.models.loading import load_trainable
    from infra.training.lora import LoraPolicy, train

    wanted = settings.trainer
    model, tokenizer, base = load_trainable(settings, nf4=wanted.quantization == "nf4")

    chat = ChatFormat(tokenizer)
    first, last = _TRAINING
    trained = train(
        model,
        [_encode(settings, task, row, chat) for row in rows if row.split == "train"],
        LoraPolicy(
            rank=wanted.rank,
            alpha=wanted.alpha,
            dropout=wanted.dropout,
            epochs=wanted.epochs,
            learning_rate=wanted.learning_rate,
            batch_rows=wanted.batch_rows,
            checkpoint_steps=wanted.checkpoint_steps,
            seed=wanted.seed,
            nf4=wanted.quantization == "nf4",
        ),
        folder,
        pad_token=tokenizer.pad_token_id,
        base_model=settings.model.base,
        progress=lambda done, text, eta: write_progress(folder, first + done * (last - first), text, eta_seconds=eta),
    )
    identity = identity_of(base, tokenizer)
    card = Card(
        task=task.name,
        base_model=settings.model.base,
        base_revision=identity.revision,
        chat_template=identity.chat_template,
    )
    return trained, card


def _encode(settings: Settings, task: Task, row: DatasetRow, chat: Any) -> Row:
    """A row as the answerer would ask it, and its answer."""
    from infra.training.batches import Row

    hits = [hit_of(source) for source in row.sources]
    budget = settings.answerer.context_tokens
    prompt = build_prompt(task, row.input, hits, (), budget=budget, count=lambda each: len(chat.encode(each)))
    return Row(prompt=chat.encode(prompt.messages), answer=chat.encode_answer(row.output))
