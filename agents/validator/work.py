"""A validation, in a child process: integrity first, then what the adapter says beside champion and base model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import structlog

from agents.delivery.progress import write_progress
from agents.validator.evaluation import Case, Examination, examine, held_out, suite_without
from agents.validator.ports import Datasets, Engine, Registry, ServingEngine, Suite
from agents.validator.probes import make_probes
from agents.validator.report import build_report, refusal_report
from agents.validator.report import scores as scores_of
from agents.validator.verdict import GateFinding, GateVerdict, ValidationPolicy, decide, rejected
from agents.wiring.children import general_texts, patiently, settings_of
from infra.adapters.files import read_card, write_probes
from infra.adapters.integrity import BaseIdentity, check_integrity, identity_of
from infra.adapters.store import FolderAdapters
from infra.models.scoring import cached_loss
from infra.reports.validation import write_report
from infra.settings import Settings
from schemas.datasets import DATASET_ROW, DatasetRow
from schemas.errors import AdapterMissing
from schemas.registry import AdapterState

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ValidationParts:
    """What a validation stands on; ``load`` loads the serving base model, ``sleep`` waits so many seconds."""

    registry: Registry
    datasets: Datasets
    suite: Suite
    load: Callable[[], tuple[ServingEngine, BaseIdentity]]
    sleep: Callable[[float], None] = time.sleep


def run(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``arguments``: config, task, adapter_id, dataset_id, champion. ``folder``: ``<home>/work/runs/<run id>``.

    Gives accepted, reasons, scores, report_uri, at, and the rows that an accepted adapter was judged on.
    """
    settings = settings_of(arguments, folder)
    return Validation(settings, arguments, folder, _parts(settings)).run()


class Validation:
    """One adapter's validation."""

    def __init__(self, settings: Settings, arguments: dict[str, Any], folder: Path, parts: ValidationParts) -> None:
        self._settings, self._folder, self._parts = settings, folder, parts
        self._task = settings.tasks[arguments["task"]]
        self._adapter_id: str = arguments["adapter_id"]
        self._dataset_id: str = arguments["dataset_id"]
        self._champion: str | None = arguments.get("champion")
        wanted = settings.validator
        self._policy = ValidationPolicy(
            min_gain=wanted.min_gain,
            max_drop=wanted.max_drop,
            max_general_loss=wanted.max_general_loss,
            chance=wanted.chance,
        )
        self._lineage: dict[str, Any] = {"dataset": self._dataset_id}

    def run(self) -> dict[str, Any]:
        """The verdict, written down in the registry and in a report. Bad adapters are refused, never a crash."""
        write_progress(self._folder, 0.0, "checking the adapter's files")
        rows: tuple[DatasetRow, ...] = ()
        scores: dict[str, float] = {}
        try:
            case, engine, base = self._case()
        except AdapterMissing as error:
            verdict = rejected(str(error))
            report = refusal_report(self._task.name, self._adapter_id, verdict, self._lineage)
        else:
            examined = examine(case, engine, _Clock(self._folder).tell, lambda: self._base_loss(case, engine, base))
            verdict = self._probed(decide(examined.evidence, self._policy), examined, engine)
            report = build_report(case, examined, verdict, self._policy, self._lineage)
            rows, scores = case.rows, scores_of(examined, champion=self._champion is not None)
        at = datetime.now(UTC)
        write_progress(self._folder, 0.98, "writing the report")
        target = self._settings.reports_folder / "validation" / self._task.name
        uri = self._patiently(lambda: write_report(target, {**report, "at": at.isoformat()})).absolute().as_uri()
        self._judge(verdict, scores, uri)
        return {
            "accepted": verdict.accepted,
            "reasons": list(verdict.reasons),
            "scores": scores,
            "report_uri": uri,
            "at": at.isoformat(),
            "rows": [DATASET_ROW.dump_python(row, mode="json") for row in rows] if verdict.accepted else [],
        }

    def _base_loss(self, case: Case, engine: Engine, base: BaseIdentity) -> float:
        """A tenth of a validation's time, and the same for all of one base model."""
        texts = sha256("\0".join(case.general).encode()).hexdigest()
        file = self._settings.home / "work" / "general-loss.json"
        return cached_loss(file, f"{base.revision} {engine.signature} {texts}", lambda: engine.loss(case.general))

    def _case(self) -> tuple[Case, ServingEngine, BaseIdentity]:
        """What to examine, the engine with its adapters, its base. Raises AdapterMissing with the reason to refuse."""
        record = self._patiently(lambda: self._parts.registry.find(self._adapter_id))
        if record is None:
            raise AdapterMissing(f"{self._adapter_id} is not in the registry: train it again")
        self._lineage |= {
            name: getattr(record, name)
            for name in ("base_model", "version", "run_id", "cause", "size_bytes", "metrics")
        } | {"trained": record.created_at.isoformat()}
        store = FolderAdapters(self._settings.adapters_folder)
        path = store.path(self._adapter_id)
        check_integrity(
            self._adapter_id,
            path,
            task=self._task.name,
            base_model=self._settings.model.base,
            max_bytes=self._settings.validator.max_adapter_bytes,
        )
        rows, suite = self._rows()
        engine, base = self._parts.load()
        base.check(self._adapter_id, read_card(path))
        engine.set_adapters({self._adapter_id: path})
        if self._champion is not None:
            try:
                engine.set_adapters({self._adapter_id: path, self._champion: store.path(self._champion)})
            except AdapterMissing as error:
                raise AdapterMissing(f"there is no champion to hold it against: {error}") from error
        case = Case(
            task=self._task,
            adapter_id=self._adapter_id,
            champion=self._champion,
            rows=held_out(rows, self._settings.validator.current_rows),
            suite=suite_without(suite, rows, self._settings.validator.retention_rows),
            general=general_texts(),
            context_tokens=self._settings.answerer.context_tokens,
        )
        return case, engine, base

    def _rows(self) -> tuple[list[DatasetRow], list[DatasetRow]]:
        """The dataset's, and of the retention suite as many as may be left when the dataset's are taken out."""
        manifest = self._patiently(lambda: self._parts.datasets.manifest(self._dataset_id))
        if manifest is None:
            raise AdapterMissing(f"the dataset {self._dataset_id} is not here: train the adapter again")
        self._lineage["dataset_rows"] = {
            "training": manifest.train_rows, "held out": manifest.holdout_rows, "fresh": manifest.fresh_rows,
            **manifest.counts,
        }  # fmt: skip
        rows = self._patiently(lambda: self._parts.datasets.rows(self._dataset_id))
        most = self._settings.validator.retention_rows
        return rows, self._patiently(lambda: self._parts.suite.rows(self._task.name, most + len(rows))) if most else []

    def _probed(self, verdict: GateVerdict, examined: Examination, engine: Engine) -> GateVerdict:
        """The verdict, once an accepted adapter's probes lie beside it; an answerer serves none without."""
        if not verdict.accepted:
            return verdict
        write_progress(self._folder, 0.95, "making the probes")
        probes = make_probes(examined.current, self._adapter_id, engine)
        if not probes:
            unsteady = "no prompt gets the same answer alone and in company: nothing to recognise the adapter by"
            return GateVerdict(findings=(*verdict.findings, GateFinding(passed=False, sentence=unsteady)))
        self._patiently(lambda: write_probes(self._settings.adapters_folder / self._adapter_id, probes))
        return verdict

    def _judge(self, verdict: GateVerdict, scores: dict[str, float], uri: str) -> None:
        state: AdapterState = "validated" if verdict.accepted else "rejected"
        try:
            self._patiently(
                lambda: self._parts.registry.judge(
                    self._adapter_id, state=state, scores=scores, reasons=verdict.reasons, report_uri=uri
                )
            )
        except AdapterMissing as error:  # it was never registered; the event tells the reason all the same
            log.warning("not judged in the registry", adapter=self._adapter_id, reason=str(error))

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(action, self._parts.sleep)


class _Clock:
    """Turns answered requests into progress with the time left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = time.monotonic()
        write_progress(folder, 0.05, "asking the held-out rows")

    def tell(self, done: int, of: int) -> None:
        left = (time.monotonic() - self._began) / done * (of - done)
        write_progress(self._folder, 0.05 + 0.9 * done / of, f"{done} of {of} answers", eta_seconds=round(left, 1))


def _parts(settings: Settings) -> ValidationParts:
    from agents.wiring.database import database_of
    from infra.registry.mlflow import MlflowRegistry
    from infra.sql.retention import SqlRetention
    from infra.training.datasets import FolderDatasets

    database = database_of(settings)
    return ValidationParts(
        registry=MlflowRegistry(settings.registry_url(), settings.registry_folder),
        datasets=FolderDatasets(settings.datasets_folder, database),
        suite=SqlRetention(database),
        load=lambda: _load(settings),
    )


def _load(settings: Settings) -> tuple[ServingEngine, BaseIdentity]:
    from infra.engines.transformers import TransformersEngine
    from infra.models.loading import prepare

    engine = TransformersEngine.load(settings)
    return engine, identity_of(prepare(settings), engine.tokenizer)
