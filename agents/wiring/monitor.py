"""Builds the monitor's worker, and what its checks need in their child processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agents.delivery.progress import write_progress
from agents.delivery.worker import Cleaner, Follower, RunKind, Tick, Worker
from agents.monitor import AGENT
from agents.monitor.agent import Monitor
from agents.monitor.controller import CHECK, CheckController
from agents.monitor.keeping import Keeper
from agents.wiring.database import database_of
from agents.wiring.runs import settings_location, settings_of, task_of
from infra.reports.files import ReportFolder
from infra.settings import Settings
from infra.sql.documents import SqlDocuments
from infra.sql.drift import SqlAnswers, SqlDriftChecks
from infra.sql.runs import SqlRunStore
from schemas.drift import DRIFT_CHECK, Baseline
from schemas.event import JsonObject
from schemas.retrieval import Hit, Search
from schemas.topics import followed_by, read_by

if TYPE_CHECKING:
    from infra.embedding.embedder import SentenceTransformerEmbedders

CHECK_NICENESS = 5
"""Lower than that of other runs: a check is half a minute's work, and everything that helps against drift waits."""


def build(settings: Settings) -> Worker:
    """Builds a worker over the configured database."""
    database = database_of(settings)
    controller = CheckController(
        answers=SqlAnswers(database),
        checks=SqlDriftChecks(database),
        runs=SqlRunStore(database),
        policy_of=settings.monitor_policy,
        settings_location=settings_location(settings),
    )
    monitor = Monitor(tasks=settings.tasks, controller=controller, now=_now)
    keeper = Keeper(SqlDriftChecks(database), ReportFolder(settings.reports_folder / "drift"), settings.retention)
    run = RunKind(
        name=CHECK,
        entry="agents.wiring.monitor:check",
        done=monitor.done,
        failed=monitor.failed,
        niceness=CHECK_NICENESS,
    )
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=monitor.handlers(),
        followers=tuple(Follower(topic=topic, apply=monitor.follow) for topic in followed_by(AGENT)),
        ticks=(Tick(name="checks", every_seconds=settings.monitor.tick_seconds, handle=monitor.tick),),
        runs=(run,),
        cleaners=(
            Cleaner(name="drift checks", clean=keeper.prune, every_seconds=600.0),
            Cleaner(name="drift reports", clean=keeper.remove_reports, every_seconds=600.0, everywhere=True),
        ),
    )


def check(arguments: JsonObject, folder: Path) -> JsonObject:
    """Makes a check in its child process and returns ``{"check": …}``.

    ``arguments``: task, baseline, champion, config. ``folder``: ``<home>/work/runs/<run id>``.
    """
    from agents.monitor.work import DriftChecker
    from infra.embedding.embedder import SentenceTransformerEmbedders
    from infra.reports.drift import DriftReportFolder
    from infra.reports.evidently_detector import EvidentlyDetector

    settings = settings_of(arguments, folder)
    task = task_of(settings, arguments["task"])
    database = database_of(settings)
    embedders = SentenceTransformerEmbedders(settings)
    checker = DriftChecker(
        answers=SqlAnswers(database),
        embedder=embedders.of(settings.embedding.model),
        detector=EvidentlyDetector(),
        search=_DocumentSearch(settings, embedders),
        versions=SqlDocuments(database),
        reports=DriftReportFolder(settings.reports_folder / "drift"),
        policy=settings.monitor_policy(task.name),
        now=_now,
        progress=partial(write_progress, folder),
    )
    baseline = Baseline(
        sequence=arguments["baseline"], champion=arguments["champion"], renewed=arguments.get("renewed", False)
    )
    return {"check": DRIFT_CHECK.dump_python(checker.check(folder.name, task, baseline), mode="json")}


class _DocumentSearch:
    """The search for documents, made when it is needed: few checks need it, and it takes seconds to load."""

    def __init__(self, settings: Settings, embedders: SentenceTransformerEmbedders) -> None:
        self._settings, self._embedders = settings, embedders

    def search(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """Returns the hits of each search, best first. Raises Unavailable."""
        from infra.milvus.retriever import MilvusRetriever
        from infra.milvus.stores import MilvusStores
        from infra.sql.indexes import SqlIndexes

        database = database_of(self._settings)
        stores = MilvusStores.from_settings(self._settings, make=False)
        with closing(stores):
            retriever = MilvusRetriever(
                indexes=SqlIndexes(database), stores=stores, embedders=self._embedders, documents=SqlDocuments(database)
            )
            return retriever.search(searches)


def _now() -> datetime:
    return datetime.now(UTC)
