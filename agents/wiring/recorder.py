"""Builds the recorder's worker: the feature table in SQL, and nothing else."""

from __future__ import annotations

from agents.delivery.worker import Worker
from agents.recorder import AGENT
from agents.recorder.agent import Recorder
from agents.wiring.database import database_of
from infra.settings import Settings
from infra.sql.features import SqlFeatureTable
from schemas.topics import read_by


def build(settings: Settings) -> Worker:
    """Builds a worker over the configured database."""
    recorder = Recorder(SqlFeatureTable(database_of(settings)))
    return Worker(agent=AGENT, topics=read_by(AGENT), handlers=recorder.handlers())
