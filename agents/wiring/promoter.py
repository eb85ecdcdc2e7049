"""Builds the promoter's worker: release state and feature table in SQL, and the registry."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from agents.delivery.worker import Cleaner, Follower, Tick, Worker
from agents.promoter import AGENT
from agents.promoter.agent import Promoter, ReleaseAliases
from agents.promoter.controller import ReleaseController
from agents.promoter.keeping import Keeper
from agents.promoter.published import PublishedReleases
from agents.wiring.database import database_of
from agents.wiring.tasks import fingerprints
from infra.adapters.store import FolderAdapters
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings
from infra.sql.drift import SqlDriftChecks
from infra.sql.releases import SqlReleases
from infra.sql.runs import SqlRunStore
from infra.training.datasets import FolderDatasets
from schemas.topics import followed_by, read_by

log = structlog.get_logger()


def build(settings: Settings) -> Worker:
    """Builds a worker over the configured database. MLflow is loaded when something is first released."""
    database = database_of(settings)
    releases, checks = SqlReleases(database), SqlDriftChecks(database)
    registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
    published = PublishedReleases(releases, log=log.info)
    promoter = Promoter(
        controller=ReleaseController(
            releases,
            settings.promoter_policy,
            now=lambda: datetime.now(UTC),
            log=log.info,
            rollbacks=settings.retention.rollbacks,
            task_of=fingerprints(settings).get,
        ),
        adapters=registry,
        aliases=ReleaseAliases(releases, registry),
        published=published,
        log=log.info,
    )
    keeper = Keeper(
        releases=releases,
        registry=registry,
        adapters=FolderAdapters(settings.adapters_folder),
        datasets=FolderDatasets(settings.datasets_folder, database),
        runs=SqlRunStore(database),
        transaction=database.transaction,
        policy=settings.retention,
        log=log.info,
        baseline=lambda task: next((each.baseline for each in checks.recent(task, 1)), None),
    )
    seconds = settings.promoter.tick_seconds
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=promoter.handlers(),
        followers=tuple(Follower(topic=topic, apply=published.follow) for topic in followed_by(AGENT)),
        ticks=(
            Tick(name="canaries", every_seconds=seconds, handle=promoter.evaluate),
            Tick(name="tasks", every_seconds=seconds, handle=promoter.follow_tasks),
            Tick(name="aliases", every_seconds=seconds, handle=promoter.set_aliases),
        ),
        cleaners=(
            Cleaner(name="release history", clean=keeper.prune_history, every_seconds=3600.0),
            Cleaner(name="tallies", clean=keeper.prune_tallies, every_seconds=3600.0),
            Cleaner(name="adapters", clean=keeper.remove_adapters, every_seconds=3600.0),
            Cleaner(name="datasets", clean=keeper.remove_datasets, every_seconds=3600.0),
            Cleaner(name="registry", clean=keeper.forget_adapters, every_seconds=3600.0),
        ),
        close=registry.close,
    )
