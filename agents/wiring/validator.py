"""Builds the validator's worker, and the parts of a validation in its child process."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from agents.delivery.worker import Cleaner, Follower, RunKind, Tick, Worker
from agents.validator import AGENT
from agents.validator.agent import KIND, Validator
from agents.validator.changed_tasks import ChangedTasks
from agents.validator.evaluation import general_texts
from agents.validator.keeping import Keeper
from agents.validator.ports import LoadedModel
from agents.validator.work import Validation, ValidationParts
from agents.wiring.database import database_of
from agents.wiring.engines import load_engine
from agents.wiring.runs import settings_location, settings_of, task_of
from agents.wiring.tasks import fingerprint, fingerprints
from infra.adapters.files import read_card, write_probes
from infra.adapters.integrity import check_integrity, identity_of
from infra.adapters.store import FolderAdapters
from infra.models.scoring import cached_loss
from infra.reports.files import ReportFolder
from infra.settings import Settings
from infra.sql.retention import SqlRetention
from infra.sql.runs import SqlRunStore
from schemas.event import JsonObject
from schemas.learning import AdapterTrained
from schemas.registry import AdapterRecord, Probe
from schemas.topics import followed_by, read_by

# MLflow, pyarrow and torch take seconds to import, and the worker does not need them: functions import them.


def build(settings: Settings) -> Worker:
    """Builds a worker that loads no model."""
    database = database_of(settings)

    def reject(adapter_id: str, reasons: Sequence[str]) -> None:
        from infra.registry.mlflow import MlflowRegistry

        registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
        registry.judge(adapter_id, state="rejected", scores={}, reasons=reasons, report_uri=None)

    reports = ReportFolder(settings.reports_folder / "validation")
    keeper = Keeper(reports, FolderAdapters(settings.adapters_folder).ids, settings.retention)
    validator = Validator(
        tasks=settings.tasks,
        runs=SqlRunStore(database),
        suite=SqlRetention(database),
        reject=reject,
        settings_location=settings_location(settings),
    )
    changed = ChangedTasks(
        fingerprints=fingerprints(settings),
        releases=validator.releases,
        adapters=LazyRegistry(settings),
        runs=SqlRunStore(database),
        settings_location=settings_location(settings),
    )
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=validator.handlers(),
        given_up={AdapterTrained: validator.given_up},
        runs=(
            RunKind(name=KIND, entry="agents.wiring.validator:validate", done=validator.done, failed=validator.failed),
        ),
        followers=tuple(Follower(topic=topic, apply=validator.follow) for topic in followed_by(AGENT)),
        ticks=(Tick(name="changed tasks", every_seconds=settings.promoter.tick_seconds, handle=changed.validate),),
        cleaners=(
            Cleaner(name="validation reports", clean=keeper.remove_reports, every_seconds=3600.0, everywhere=True),
        ),
    )


class LazyRegistry:
    """The registry, for what the worker seldom looks up. MLflow is imported at the first call."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def find(self, adapter_id: str) -> AdapterRecord | None:
        from infra.registry.mlflow import MlflowRegistry

        with closing(MlflowRegistry(self._settings.registry_url(), self._settings.registry_folder)) as registry:
            return registry.find(adapter_id)


def validate(arguments: JsonObject, folder: Path) -> JsonObject:
    """Validates an adapter. ``arguments``: config, task, adapter_id, dataset_id, champion, earlier.

    ``folder``: ``<home>/work/runs/<run id>``.
    """
    settings = settings_of(arguments, folder)
    return validation(settings, arguments, folder, parts(settings)).run()


def validation(settings: Settings, arguments: JsonObject, folder: Path, parts: ValidationParts) -> Validation:
    """Makes the room's validation of a run's arguments."""
    return Validation(
        task=task_of(settings, arguments["task"]),
        adapter_id=arguments["adapter_id"],
        dataset_id=arguments["dataset_id"],
        champion=arguments.get("champion"),
        earlier=tuple(arguments.get("earlier", ())),
        folder=folder,
        parts=parts,
        policy=settings.validator_policy(arguments["task"]),
        context_tokens=settings.answerer.context_tokens,
        fingerprint=fingerprint(settings, task_of(settings, arguments["task"])),
    )


def parts(settings: Settings) -> ValidationParts:
    """Makes the parts of a validation. They load and connect when they are first used."""
    from infra.registry.mlflow import MlflowRegistry
    from infra.reports.validation import write_report
    from infra.training.datasets import FolderDatasets

    database = database_of(settings)
    adapters = AdaptersOnDisk(settings)
    reports = settings.reports_folder / "validation"
    return ValidationParts(
        registry=MlflowRegistry(settings.registry_url(), settings.registry_folder),
        datasets=FolderDatasets(settings.datasets_folder, database),
        suite=SqlRetention(database),
        adapters=adapters,
        load_model=lambda: _load_model(settings, adapters),
        cached_loss=partial(cached_loss, settings.home / "work" / "general-loss.json"),
        write_report=lambda report: write_report(reports / str(report["task"]), report).absolute().as_uri(),
        general_texts=general_texts(),
    )


class AdaptersOnDisk:
    """The folder of adapters, with the checks that the settings ask for."""

    def __init__(self, settings: Settings) -> None:
        self._store = FolderAdapters(settings.adapters_folder)
        self._base_model = settings.model.base
        self._max_bytes = settings.validator.max_adapter_bytes

    def path(self, adapter_id: str) -> Path:
        return self._store.path(adapter_id)

    def check(self, adapter_id: str, task: str) -> None:
        check_integrity(
            adapter_id, self.path(adapter_id), task=task, base_model=self._base_model, max_bytes=self._max_bytes
        )

    def write_probes(self, adapter_id: str, probes: Sequence[Probe]) -> None:
        write_probes(self.path(adapter_id), probes)


def _load_model(settings: Settings, adapters: AdaptersOnDisk) -> LoadedModel:
    from infra.models.loading import load_tokenizer, prepare

    engine = load_engine(settings)
    base = identity_of(prepare(settings), load_tokenizer(settings))
    return LoadedModel(
        engine=engine,
        revision=base.revision,
        check=lambda adapter_id: base.check(adapter_id, read_card(adapters.path(adapter_id))),
    )
