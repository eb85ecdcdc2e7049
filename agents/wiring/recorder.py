"""Builds the recorder's worker: the feature table in SQL, and nothing else."""

from __future__ import annotations

from agents.delivery.worker import Cleaner, Worker
from agents.monitor.keeping import reference_windows
from agents.recorder import AGENT
from agents.recorder.agent import Recorder
from agents.recorder.keeping import Keeper
from agents.recorder.voices import Rules
from agents.wiring.database import database_of
from infra.settings import Settings
from infra.sql.drift import SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from schemas.topics import read_by


def rules_of(settings: Settings) -> Rules:
    """Returns what the configuration says about feedback."""
    labels = {name: task.labels for name, task in settings.tasks.items() if task.labels}
    return Rules(reviewers=frozenset(settings.feedback.reviewers), labels=labels)


def build(settings: Settings) -> Worker:
    """Builds a worker over the configured database."""
    database = database_of(settings)
    rows, checks = SqlFeatureTable(database), SqlDriftChecks(database)
    keeper = Keeper(rows, settings.retention, lambda: reference_windows(settings.tasks, checks))
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=Recorder(rows, rules_of(settings)).handlers(),
        cleaners=(
            Cleaner(name="feature rows", clean=keeper.prune),
            Cleaner(name="pending feedback", clean=keeper.prune_pending),
        ),
    )
