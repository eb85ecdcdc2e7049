"""The validator's parts: runs and retention suite in SQL; models and the registry only in its runs' processes."""

from __future__ import annotations

from collections.abc import Sequence

from agents.delivery.worker import Follower, RunKind, Worker
from agents.validator.agent import KIND, Validator
from agents.wiring.children import place
from agents.wiring.database import database_of
from infra.settings import Settings
from infra.sql.retention import SqlRetention
from infra.sql.runs import SqlRunStore


def build(settings: Settings) -> Worker:
    """A worker over the configured database; loads no model."""
    database = database_of(settings)

    def judge(adapter_id: str, reasons: Sequence[str]) -> None:
        from infra.registry.mlflow import MlflowRegistry  # MLflow takes seconds to import, and this seldom happens

        registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
        registry.judge(adapter_id, state="rejected", scores={}, reasons=reasons, report_uri=None)

    validator = Validator(
        tasks=settings.tasks,
        runs=SqlRunStore(database),
        retention=SqlRetention(database),
        judge=judge,
        where=place(settings),
    )
    return Worker(
        agent="validator",
        topics=("adapters.v1",),
        handlers=validator.handlers(),
        runs=(RunKind(name=KIND, entry="agents.validator.work:run", done=validator.done, failed=validator.failed),),
        followers=(Follower(topic="promotions.v1", apply=validator.follow),),
    )
