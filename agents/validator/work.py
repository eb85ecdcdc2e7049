"""Does a validation in a child process: checks an adapter's files, evaluates it, decides, and reports the verdict."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import structlog

from agents.delivery.progress import write_progress
from agents.delivery.retrying import retry_while_unavailable
from agents.validator.evaluation import (
    Evaluation,
    EvaluationPlan,
    evaluate,
    golden_rows,
    held_out_rows,
    retention_rows,
    without_stale,
)
from agents.validator.ports import (
    AdapterFiles,
    CachedLoss,
    Datasets,
    EvaluationEngine,
    LoadedModel,
    Registry,
    RetentionSuite,
    WriteReport,
)
from agents.validator.probes import make_probes
from agents.validator.report import build_report, refusal_report, scores
from agents.validator.significance import level_of_try
from agents.validator.verdict import GateFinding, GateVerdict, decide, rejected
from schemas.datasets import DATASET_ROW, DatasetRow
from schemas.errors import AdapterMissing
from schemas.event import JsonObject
from schemas.figures import finite
from schemas.policies import ValidatorPolicy
from schemas.registry import AdapterState
from schemas.tasks import Task, TaskFingerprint

log = structlog.get_logger()
T = TypeVar("T")

DRAWN_FROM = 5
"""How many times as many rows of the retention suite are read as are asked, so that candidates get different ones."""


@dataclass(frozen=True, kw_only=True)
class ValidationParts:
    """What a validation works with. ``load_model`` loads the base model that serves. ``sleep`` gets seconds.

    ``general_texts``: the plain text on which forgetting is measured.
    """

    registry: Registry
    datasets: Datasets
    suite: RetentionSuite
    adapters: AdapterFiles
    load_model: Callable[[], LoadedModel]
    cached_loss: CachedLoss
    write_report: WriteReport
    general_texts: tuple[str, ...]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Validation:
    """One validation run."""

    task: Task
    adapter_id: str
    dataset_id: str
    champion: str | None
    """The id of the adapter that serves, or None while the base model does."""
    earlier: tuple[str, ...]
    """The datasets of the candidates that were judged against this champion before, one for each candidate."""
    folder: Path
    """The folder of the run."""
    parts: ValidationParts
    policy: ValidatorPolicy
    context_tokens: int
    """The most tokens of a prompt, the same as the answerer's."""
    fingerprint: TaskFingerprint | None = None
    """The task as it is now."""
    _lineage: JsonObject = field(init=False, default_factory=dict)
    """Where the adapter comes from, for the report."""

    def run(self) -> JsonObject:
        """Returns accepted, reasons, scores, report_uri, at, and the rows that an accepted adapter was judged on.

        Of an adapter that was evaluated also tries and level, as in the event.

        An adapter that cannot be evaluated is rejected with the reason. It is no error of the run.
        """
        write_progress(self.folder, 0.0, "checking the adapter's files")
        self._lineage["dataset"] = self.dataset_id
        rows: tuple[DatasetRow, ...] = ()
        figures: dict[str, float] = {}
        spent: JsonObject = {}
        try:
            plan, model = self._prepare()
        except AdapterMissing as error:
            verdict = rejected(str(error))
            report = refusal_report(self.task.name, self.adapter_id, verdict, self._lineage)
        else:
            evaluation = evaluate(
                plan, model.engine, _Progress(self.folder).report, lambda: self._base_loss(plan, model)
            )
            verdict = self._with_probes(decide(evaluation.evidence, self.policy), evaluation, model.engine)
            report = build_report(plan, evaluation, verdict, self.policy, self._lineage)
            rows, figures = plan.rows, scores(evaluation, champion=self.champion is not None)
            spent = {"tries": plan.tries, "level": level_of_try(self.policy.chance, plan.tries)}
        at = self.parts.now().isoformat()
        write_progress(self.folder, 0.98, "writing the report")
        uri = self._retry(lambda: self.parts.write_report({**report, "at": at}))
        self._judge(verdict, figures, uri)
        return {
            "accepted": verdict.accepted,
            "reasons": list(verdict.reasons),
            "scores": figures,
            **spent,
            "report_uri": uri,
            "at": at,
            **({"fingerprint": self.fingerprint.model_dump(mode="json")} if self.fingerprint is not None else {}),
            "rows": [DATASET_ROW.dump_python(row, mode="json") for row in rows] if verdict.accepted else [],
        }

    def _prepare(self) -> tuple[EvaluationPlan, LoadedModel]:
        """Returns what to evaluate, and the model with the adapters loaded.

        Raises AdapterMissing with the reason to reject the adapter.
        """
        self._find()
        self.parts.adapters.check(self.adapter_id, self.task.name)
        dataset, rows, suite, stale = self._rows()
        tries = self._tries(rows)
        model = self.parts.load_model()
        model.check(self.adapter_id)
        self._load_adapters(model.engine)
        draw = self.adapter_id
        plan = EvaluationPlan(
            task=self.task,
            adapter_id=self.adapter_id,
            champion=self.champion,
            rows=held_out_rows(rows, self.policy.current_rows, draw=draw),
            suite=retention_rows(suite, dataset, self.policy.retention_rows, draw=draw),
            golden=golden_rows(rows, self.policy.current_rows, draw=draw),
            tries=tries,
            stale=stale,
            general=self.parts.general_texts,
            context_tokens=self.context_tokens,
        )
        return plan, model

    def _find(self) -> None:
        record = self._retry(lambda: self.parts.registry.find(self.adapter_id))
        if record is None:
            raise AdapterMissing(f"{self.adapter_id} is not in the registry: train it again")
        for name in ("base_model", "version", "run_id", "cause", "size_bytes"):
            self._lineage[name] = getattr(record, name)
        self._lineage["metrics"] = finite(record.metrics)
        self._lineage["trained"] = record.created_at.isoformat()

    def _rows(self) -> tuple[list[DatasetRow], list[DatasetRow], list[DatasetRow], dict[str, dict[str, int]]]:
        """Returns the dataset's rows, those that candidates are judged on, rows of the retention suite, and the stale.

        The suite's rows are enough even if the dataset holds some of them. See ``EvaluationPlan.stale``.
        """
        manifest = self._retry(lambda: self.parts.datasets.manifest(self.dataset_id))
        if manifest is None:
            raise AdapterMissing(f"the dataset {self.dataset_id} is not here: train the adapter again")
        self._lineage["dataset_rows"] = {
            "training": manifest.train_rows,
            "held out": manifest.holdout_rows,
            "fresh": manifest.fresh_rows,
            **manifest.counts,
        }
        dataset = self._retry(lambda: self.parts.datasets.rows(self.dataset_id))
        rows, stale_rows = without_stale(self.task, (row for row in dataset if row.split != "train"))
        suite, stale_suite = self._suite(len(dataset)) if self.policy.retention_rows else ([], {})
        return dataset, rows, suite, {"dataset": stale_rows, "retention": stale_suite}

    def _suite(self, known: int) -> tuple[list[DatasetRow], dict[str, int]]:
        """Returns rows of the suite without stale ones, and the number of the stale. ``known``: the dataset's rows."""
        wanted = self.policy.retention_rows * DRAWN_FROM + known
        most = wanted
        while True:
            found = self._retry(partial(self.parts.suite.rows, self.task.name, most))
            kept, stale = without_stale(self.task, found)
            if len(kept) >= wanted or len(found) < most:
                return kept[:wanted], stale
            most *= 2

    def _tries(self, rows: Sequence[DatasetRow]) -> int:
        """Returns the number of this candidate among those that were judged on any of these held-out rows.

        A dataset that is gone counts as if it had them.
        """
        held = {row.row_id for row in rows if row.split == "holdout"}
        shares = {self.dataset_id: True}
        for dataset_id in dict.fromkeys(self.earlier):
            if dataset_id not in shares:
                shares[dataset_id] = self._holds_any(dataset_id, held)
        return 1 + sum(shares[dataset_id] for dataset_id in self.earlier)

    def _holds_any(self, dataset_id: str, held: set[str]) -> bool:
        try:
            rows = self._retry(lambda: self.parts.datasets.rows(dataset_id))
        except AdapterMissing:
            return True
        return any(row.split == "holdout" and row.row_id in held for row in rows)

    def _load_adapters(self, engine: EvaluationEngine) -> None:
        """Loads the candidate alone first, so that an error says which of the two adapters cannot be loaded."""
        adapters = {self.adapter_id: self.parts.adapters.path(self.adapter_id)}
        engine.set_adapters(adapters)
        if self.champion is None:
            return
        try:
            engine.set_adapters({**adapters, self.champion: self.parts.adapters.path(self.champion)})
        except AdapterMissing as error:
            raise AdapterMissing(f"there is no champion to compare it with: {error}") from error

    def _base_loss(self, plan: EvaluationPlan, model: LoadedModel) -> float:
        """Caches the loss. It takes a tenth of a validation's time and is the same for all adapters of a base model."""
        texts = sha256("\0".join(plan.general).encode()).hexdigest()
        key = f"{model.revision} {model.engine.signature} {texts}"
        return self.parts.cached_loss(key, lambda: model.engine.loss(plan.general))

    def _with_probes(self, verdict: GateVerdict, evaluation: Evaluation, engine: EvaluationEngine) -> GateVerdict:
        """Writes the probes of an accepted adapter. Answerers serve no adapter without probes, so it needs some."""
        if not verdict.accepted:
            return verdict
        write_progress(self.folder, 0.95, "making the probes")
        probes = make_probes(evaluation.current, self.adapter_id, engine)
        if not probes:
            unsteady = "no prompt gets the same answer alone and in company: nothing to recognise the adapter by"
            return GateVerdict(findings=(*verdict.findings, GateFinding(passed=False, sentence=unsteady)))
        self._retry(lambda: self.parts.adapters.write_probes(self.adapter_id, probes))
        return verdict

    def _judge(self, verdict: GateVerdict, figures: dict[str, float], uri: str) -> None:
        state: AdapterState = "validated" if verdict.accepted else "rejected"
        try:
            self._retry(
                lambda: self.parts.registry.judge(
                    self.adapter_id,
                    state=state,
                    scores=figures,
                    reasons=verdict.reasons,
                    report_uri=uri,
                    validated_as=self.fingerprint if verdict.accepted else None,
                )
            )
        except AdapterMissing as error:  # it was never registered; the event still gives the reason
            log.warning("not judged in the registry", adapter=self.adapter_id, reason=str(error))

    def _retry(self, action: Callable[[], T]) -> T:
        return retry_while_unavailable(action, self.folder, self.parts.sleep)


class _Progress:
    """Reports how many requests were answered, and how long the rest will take."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._began = time.monotonic()
        write_progress(folder, 0.05, "asking the held-out rows")

    def report(self, done: int, total: int) -> None:
        left = (time.monotonic() - self._began) / done * (total - done)
        write_progress(
            self._folder, 0.05 + 0.9 * done / total, f"{done} of {total} answers", eta_seconds=round(left, 1)
        )
