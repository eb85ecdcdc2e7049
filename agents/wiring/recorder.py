"""The recorder's parts: the feature table in SQL, and nothing else."""

from __future__ import annotations

from agents.delivery.worker import Worker
from agents.recorder.agent import Recorder
from agents.wiring.database import database_of
from infra.settings import Settings
from infra.sql.features import SqlFeatureTable


def build(settings: Settings) -> Worker:
    """A worker over the configured database."""
    recorder = Recorder(SqlFeatureTable(database_of(settings)))
    return Worker(agent="recorder", topics=("answers.v1", "feedback.v1", "examples.v1"), handlers=recorder.handlers())
