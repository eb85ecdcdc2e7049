"""The trainer's parts: its runs in SQL; models, datasets and the registry only in its runs' processes."""

from __future__ import annotations

from agents.delivery.worker import RunKind, Worker
from agents.trainer.agent import AGENT, KIND, Trainer
from agents.validator.metrics import METRICS
from agents.wiring.children import place
from agents.wiring.database import database_of
from infra.settings import Settings
from infra.sql.runs import SqlRunStore


def build(settings: Settings) -> Worker:
    """A worker over the configured database; loads no model."""
    trainer = Trainer(
        tasks=settings.tasks, metrics=tuple(METRICS), runs=SqlRunStore(database_of(settings)), where=place(settings)
    )
    return Worker(
        agent=AGENT,
        topics=("drift.v1", "requests.v1"),
        handlers=trainer.handlers(),
        runs=(RunKind(name=KIND, entry="agents.trainer.work:run", done=trainer.done, failed=trainer.failed),),
    )
