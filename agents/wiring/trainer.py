"""Builds the trainer's worker, and the parts of a training in its child process."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from agents.delivery.worker import RunKind, Worker
from agents.trainer import AGENT
from agents.trainer.agent import KIND, Trainer
from agents.trainer.work import Training, TrainingParts
from agents.validator.metrics import METRICS
from agents.wiring.database import database_of
from agents.wiring.runs import settings_location, settings_of, task_of
from agents.wiring.tasks import fingerprint
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.runs import SqlRunStore
from schemas.event import JsonObject
from schemas.topics import read_by


def build(settings: Settings) -> Worker:
    """Builds a worker that loads no model."""
    trainer = Trainer(
        tasks=settings.tasks,
        metrics=tuple(METRICS),
        runs=SqlRunStore(database_of(settings)),
        settings_location=settings_location(settings),
    )
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=trainer.handlers(),
        given_up=dict.fromkeys(trainer.handlers(), trainer.given_up),
        runs=(RunKind(name=KIND, entry="agents.wiring.trainer:train", done=trainer.done, failed=trainer.failed),),
    )


def train(arguments: JsonObject, folder: Path) -> JsonObject:
    """Trains an adapter. ``arguments``: config, task, cause. ``folder``: ``<home>/work/runs/<run id>``."""
    # These libraries take seconds to import, and the worker does not need them.
    from infra.registry.mlflow import MlflowRegistry
    from infra.sql.documents import SqlDocuments
    from infra.sql.features import SqlFeatureTable
    from infra.sql.retention import SqlRetention
    from infra.sql.secrets import SqlSecrets
    from infra.training.base_model import LoraTraining
    from infra.training.datasets import FolderDatasets

    settings = settings_of(arguments, folder)
    policy = settings.trainer_policy(arguments["task"])
    with closing(Database(settings.sql_url())) as database:
        training = Training(
            task=task_of(settings, arguments["task"]),
            cause=arguments["cause"],
            folder=folder,
            parts=TrainingParts(
                features=SqlFeatureTable(database),
                documents=SqlDocuments(database),
                suite=SqlRetention(database),
                secret=lambda: SqlSecrets(database).secret("held-out rows"),
                datasets=FolderDatasets(settings.datasets_folder, database),
                training=LoraTraining(settings, policy),
                installer=_Adapters(settings.adapters_folder),
                registry=MlflowRegistry(settings.registry_url(), settings.registry_folder),
            ),
            policy=policy,
            context_tokens=settings.answerer.context_tokens,
            base_model=settings.model.base,
            fingerprint=fingerprint(settings, task_of(settings, arguments["task"])),
        )
        return training.run()


class _Adapters:
    """The folder of adapters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, trained: Path) -> tuple[str, int]:
        from infra.adapters.files import install, size_of

        adapter_id, place = install(trained, self._folder)
        return adapter_id, size_of(place)
