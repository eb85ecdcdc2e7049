"""Builds the promoter's worker: release state and feature table in SQL, and the registry."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from agents.delivery.worker import Follower, Tick, Worker
from agents.promoter import AGENT
from agents.promoter.agent import Promoter, ReleaseAliases
from agents.promoter.controller import ReleaseController
from agents.promoter.published import PublishedReleases
from agents.wiring.database import database_of
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings
from infra.sql.releases import SqlReleases
from schemas.topics import followed_by, read_by

log = structlog.get_logger()


def build(settings: Settings) -> Worker:
    """Builds a worker over the configured database. MLflow is loaded when something is first released."""
    releases = SqlReleases(database_of(settings))
    registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
    published = PublishedReleases(releases, log=log.info)
    promoter = Promoter(
        controller=ReleaseController(releases, settings.promoter_policy, now=lambda: datetime.now(UTC), log=log.info),
        adapters=registry,
        aliases=ReleaseAliases(releases, registry),
        published=published,
        log=log.info,
    )
    seconds = settings.promoter.tick_seconds
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=promoter.handlers(),
        followers=tuple(Follower(topic=topic, apply=published.follow) for topic in followed_by(AGENT)),
        ticks=(
            Tick(name="canaries", every_seconds=seconds, handle=promoter.evaluate),
            Tick(name="aliases", every_seconds=seconds, handle=promoter.set_aliases),
        ),
        close=registry.close,
    )
