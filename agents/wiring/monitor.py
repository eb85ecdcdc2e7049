"""Builds the monitor's worker, and what its checks need in their child processes."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path

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
from infra.sql.drift import SqlAnswers, SqlDriftChecks
from infra.sql.runs import SqlRunStore
from schemas.drift import DRIFT_CHECK, Baseline
from schemas.event import JsonObject
from schemas.topics import followed_by, read_by

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
    from infra.embedding.embedder import SentenceTransformerEmbedder
    from infra.reports.drift import DriftReportFolder

    settings = settings_of(arguments, folder)
    task = task_of(settings, arguments["task"])
    checker = DriftChecker(
        answers=SqlAnswers(database_of(settings)),
        embedder=SentenceTransformerEmbedder(settings),
        reports=DriftReportFolder(settings.reports_folder / "drift"),
        policy=settings.monitor_policy(task.name),
        now=_now,
        progress=partial(write_progress, folder),
    )
    baseline = Baseline(
        sequence=arguments["baseline"], champion=arguments["champion"], renewed=arguments.get("renewed", False)
    )
    return {"check": DRIFT_CHECK.dump_python(checker.check(folder.name, task, baseline), mode="json")}


def _now() -> datetime:
    return datetime.now(UTC)
