"""The promoter's parts: release state and feature table in SQL, and the registry once it is needed."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property

import structlog

from agents.delivery.worker import Tick, Worker
from agents.promoter.agent import Promoter
from agents.promoter.aliases import ReleaseAliases
from agents.promoter.canary import CanaryPolicy
from agents.promoter.controller import ReleaseController
from agents.promoter.ports import AdapterLookup, Aliases, ReleaseStore
from agents.wiring.database import database_of
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings
from infra.sql.releases import SqlReleases
from schemas.registry import AdapterRecord

log = structlog.get_logger()


def build(settings: Settings) -> Worker:
    """A worker over the configured database; MLflow is loaded when something is first released."""
    releases: ReleaseStore = SqlReleases(database_of(settings))
    registry = _Registry(settings)
    adapters: AdapterLookup = registry
    names: Aliases = registry
    promoter = Promoter(
        controller=ReleaseController(releases, policy_of(settings), now=lambda: datetime.now(UTC), log=log.info),
        adapters=adapters,
        aliases=ReleaseAliases(releases, names),
        log=log.info,
    )
    return Worker(
        agent="promoter",
        topics=("validations.v1", "requests.v1", "interactions.v1"),
        handlers=promoter.handlers(),
        ticks=(
            Tick(name="canaries", every_seconds=settings.promoter.tick_seconds, handle=promoter.look),
            Tick(name="aliases", every_seconds=settings.promoter.tick_seconds, handle=promoter.set_aliases),
        ),
        close=registry.close,
    )


def policy_of(settings: Settings) -> CanaryPolicy:
    wanted = settings.promoter
    return CanaryPolicy(
        shares=wanted.shares,
        judged=wanted.judged,
        confidence=wanted.confidence,
        margin=wanted.margin,
        max_failed=wanted.max_failed,
        watch_seconds=wanted.watch_seconds,
    )


class _Registry:
    """The registry, which is opened when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _opened(self) -> MlflowRegistry:
        return MlflowRegistry(self._settings.registry_url(), self._settings.registry_folder)

    def close(self) -> None:
        if "_opened" in vars(self):
            self._opened.close()

    def find(self, adapter_id: str) -> AdapterRecord | None:
        return self._opened.find(adapter_id)

    def set_aliases(self, task: str, *, champion: str | None, challenger: str | None) -> None:
        self._opened.set_aliases(task, champion=champion, challenger=challenger)
