"""Lists what a home keeps: how much, for how long, who deletes it, and what goes within a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agents.monitor.keeping import expired_reports
from agents.promoter.keeping import needed_datasets, removable_adapters
from infra.adapters.store import FolderAdapters
from infra.registry.mlflow import MlflowRegistry
from infra.reports.files import ReportFolder
from infra.settings import Settings
from infra.sizes import databases, size_of
from infra.sql.database import Database
from infra.sql.drift import SqlDriftChecks
from infra.sql.releases import SqlReleases
from infra.sql.sizes import SqlSizes
from infra.training.datasets import FolderDatasets
from schemas.errors import EverlearnError
from schemas.policies import EMBEDDED, RetentionPolicy
from schemas.registry import AdapterRecord
from schemas.topics import all_topics

SOON = timedelta(days=1)
NOBODY = "–"
"""Nobody deletes it: it is kept as long as the home."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many rows, files or folders, and their bytes; None where that is not known."""

    count: int
    bytes: int | None


@dataclass(frozen=True, kw_only=True)
class StoredKind:
    """One kind of what is kept. ``next``: what goes within a day, None where age does not decide."""

    kind: str
    place: str
    size: Size
    kept: str
    deleted_by: str = NOBODY
    next: Size | None = None


Problem = Callable[[str], None]
"""Is told why something could not be measured."""


def stored(settings: Settings, problem: Problem, now: datetime | None = None) -> list[StoredKind]:
    """Returns every kind that there is something of. It starts nothing and changes nothing."""
    inventory = _Inventory(settings, now or datetime.now(UTC), problem)
    return [each for each in inventory.kinds() if each.size.count]


class _Inventory:
    """Measures one home."""

    def __init__(self, settings: Settings, now: datetime, problem: Problem) -> None:
        self._settings, self._now, self._problem = settings, now, problem
        self._policy = settings.retention
        self._database: Database | None = None

    def kinds(self) -> Iterator[StoredKind]:
        settings = self._settings
        url = settings.sql_url()
        if settings.sql.url != EMBEDDED or (settings.home / "everlearn.db").is_file():
            self._database = Database(url)
        try:
            yield from self._attempt(self._tables)
            yield from self._attempt(self._reports)
            yield from self._attempt(self._learned)
        finally:
            if self._database is not None:
                self._database.close()
        yield from self._runs()
        yield from self._kafka()
        yield from self._others()

    def _attempt(self, part: Callable[[], Iterable[StoredKind]]) -> list[StoredKind]:
        try:
            return list(part())
        except EverlearnError as error:
            self._problem(str(error))
            return []

    def _soon(self, days: float) -> datetime:
        """The time before which something is too old within a day."""
        return self._now + SOON - timedelta(days=days)

    def _tables(self) -> Iterator[StoredKind]:
        if self._database is None:
            return
        policy, sizes = self._policy, SqlSizes(self._database)
        measured = sizes.tables()
        place = "SQL" if self._database.dialect == "postgresql" else "everlearn.db"

        def kind(name: str, *names: str, kept: str, by: str = NOBODY, next_rows: int | None = None) -> StoredKind:
            of = [measured.pop(each) for each in names if each in measured]
            rows = sum(each.rows for each in of)
            taken = None if any(each.bytes is None for each in of) else sum(each.bytes or 0 for each in of)
            goes = None
            if next_rows is not None:
                share = None if taken is None or not rows else round(taken * next_rows / rows)
                goes = Size(count=next_rows, bytes=share if rows else 0)
            size = Size(count=rows, bytes=taken)
            return StoredKind(kind=name, place=place, size=size, kept=kept, deleted_by=by, next=goes)

        if "journal" not in measured:
            return  # not migrated yet
        soon = self._soon
        yield kind(
            "feature rows", "interactions", kept=f"{policy.feature_days:g} days after the last event", by="recorder",
            next_rows=sizes.old_interactions(soon(policy.feature_days), pending_before=soon(policy.pending_days)),
        )  # fmt: skip
        yield kind("feedback", "feedback", kept="as long as its feature row", by="recorder")
        yield kind("examples", "examples", kept="for ever")
        yield kind(
            "journal", "journal", kept=f"{policy.journal_days:g} days", by="every agent",
            next_rows=sizes.older("journal.at", soon(policy.journal_days)),
        )  # fmt: skip
        yield kind(
            "runs", "runs", kept=f"{policy.run_days:g} days after their end", by="every agent",
            next_rows=sizes.older("runs.finished_at", soon(policy.run_days)),
        )  # fmt: skip
        yield kind(
            "drift checks", "drift_checks", kept=f"{policy.check_days:g} days; a task's newest stays", by="monitor",
            next_rows=sizes.older("drift_checks.checked_at", soon(policy.check_days)),
        )  # fmt: skip
        yield kind("retention suite", "retention_rows", kept="for ever")
        yield kind("documents", "documents", "contents", kept="while they are current; withdrawn ones by name")
        keep_vectors = self._settings.indexer.keep_vectors_days
        yield kind(
            "cached embeddings", "vectors", kept=f"{keep_vectors:g} days after their last use", by="indexer",
            next_rows=sizes.older("vectors.used_at", soon(keep_vectors)),
        )  # fmt: skip
        yield kind(
            "releases", "releases", "release_history", kept=f"the history {policy.release_days:g} days", by="promoter",
            next_rows=sizes.older("release_history.at", soon(policy.release_days)),
        )  # fmt: skip
        measured.pop("datasets", None)  # counted with their files
        yield kind("other tables", *list(measured), kept="as long as what they describe")

    def _reports(self) -> Iterator[StoredKind]:
        policy = self._policy
        written = ReportFolder(self._settings.reports_folder / "drift").all()
        checks = SqlDriftChecks(self._database).of([each.name for each in written]) if self._database else {}
        expired = expired_reports(written, checks, self._now + SOON, policy)
        yield StoredKind(
            kind="drift reports", place="reports/drift",
            size=Size(count=len(written), bytes=size_of(self._settings.reports_folder / "drift")),
            kept=f"{policy.report_days:g} days, with drift {policy.alarm_report_days:g}", deleted_by="monitor",
            next=Size(count=len(expired), bytes=sum(each.size_bytes for each in expired)),
        )  # fmt: skip
        reports = ReportFolder(self._settings.reports_folder / "validation").all()
        yield StoredKind(
            kind="validation reports", place="reports/validation",
            size=Size(count=len(reports), bytes=sum(each.size_bytes for each in reports)),
            kept=f"as long as the adapter, at least {policy.alarm_report_days:g} days", deleted_by="validator",
        )  # fmt: skip

    def _learned(self) -> Iterator[StoredKind]:
        """Adapters, datasets and the registry."""
        settings, policy = self._settings, self._policy
        ids = FolderAdapters(settings.adapters_folder).ids()
        datasets = FolderDatasets(settings.datasets_folder, self._database) if self._database else None
        manifests = datasets.older(self._now + SOON) if datasets else []
        removable, needed = self._not_needed(policy) if ids or manifests else (set[str](), set[str]())
        going = [each for each in ids if each in removable]
        yield StoredKind(
            kind="adapters", place="adapters", size=Size(count=len(ids), bytes=size_of(settings.adapters_folder)),
            kept=f"{policy.rejected_adapter_days:g} days if rejected, else {policy.adapter_days:g}; in service and "
            f"{policy.rollbacks} champions before: for ever", deleted_by="promoter",
            next=Size(count=len(going), bytes=size_of(*(settings.adapters_folder / each for each in going))),
        )  # fmt: skip
        old = [each.dataset_id for each in manifests if each.created_at < self._soon(policy.dataset_days)]
        old = [each for each in old if each not in needed]
        yield StoredKind(
            kind="datasets", place="datasets", size=Size(count=len(manifests), bytes=size_of(settings.datasets_folder)),
            kept=f"{policy.dataset_days:g} days, at least as long as their adapters", deleted_by="promoter",
            next=Size(count=len(old), bytes=size_of(*(settings.datasets_folder / each for each in old))),
        )  # fmt: skip
        files = [settings.home / "registry.db", *settings.registry_folder.glob("artifacts")]
        if settings.registry.url == EMBEDDED and files[0].is_file():
            yield StoredKind(
                kind="registry", place="registry.db",
                size=Size(count=1, bytes=size_of(*databases(files[0]), *files[1:])),
                kept=f"entries of deleted adapters {policy.registry_days:g} days", deleted_by="promoter",
            )  # fmt: skip

    def _not_needed(self, policy: RetentionPolicy) -> tuple[set[str], set[str]]:
        """Returns the adapters that go within a day, and the datasets that stay."""
        registry = MlflowRegistry(self._settings.registry_url(), self._settings.registry_folder)
        try:
            records: dict[str, list[AdapterRecord]] = {}
            for record in registry.adapters():
                records.setdefault(record.task, []).append(record)
        finally:
            registry.close()
        releases = {each.task: each for each in SqlReleases(self._database).all()} if self._database else {}
        removable, needed = set[str](), set[str]()
        for task, of_task in records.items():
            going = removable_adapters(of_task, releases.get(task), self._now + SOON, policy)
            removable |= {each.adapter_id for each in going}
            needed |= needed_datasets(of_task)
        return removable, needed

    def _runs(self) -> Iterator[StoredKind]:
        folder, policy = self._settings.home / "work" / "runs", self._policy
        found = [each for each in folder.iterdir() if each.is_dir()] if folder.is_dir() else []
        soon = self._soon(policy.run_folder_days).timestamp()
        old = [each for each in found if each.stat().st_mtime < soon]
        yield StoredKind(
            kind="run folders", place="work/runs", size=Size(count=len(found), bytes=size_of(folder)),
            kept=f"{policy.run_folder_days:g} days, of failed runs {policy.failed_run_folder_days:g}",
            deleted_by="every agent", next=Size(count=len(old), bytes=size_of(*old)),
        )  # fmt: skip

    def _kafka(self) -> Iterator[StoredKind]:
        data = self._settings.home / "kafka"
        if self._settings.kafka.bootstrap_servers != EMBEDDED or not data.is_dir():
            return
        days = {topic.name: topic.retention_days for topic in all_topics() if not topic.compacted}
        for name in sorted({each.name.rpartition("-")[0] for each in data.glob("*-[0-9]*") if each.is_dir()}):
            folders = [each for each in data.glob(f"{name}-*") if each.name.rpartition("-")[0] == name]
            taken = sum(size_of(*folder.glob("*.log")) for folder in folders)
            if not taken:
                continue
            kept, goes = "the last record of each key", None
            if name in days:
                soon = self._soon(days[name]).timestamp()
                old = [each for folder in folders for each in folder.glob("*.log") if each.stat().st_mtime < soon]
                kept, goes = f"{days[name]} days", Size(count=len(old), bytes=size_of(*old))
            elif name.startswith("__"):
                kept = "Kafka's own"
            yield StoredKind(
                kind=f"topic {name}", place="kafka", size=Size(count=len(folders), bytes=taken), kept=kept,
                deleted_by="Kafka", next=goes,
            )  # fmt: skip

    def _others(self) -> Iterator[StoredKind]:
        settings = self._settings

        def folder(kind: str, place: str, kept: str, *paths: Path, by: str = NOBODY) -> StoredKind:
            there = [each for each in paths if each.exists()]
            size = Size(count=len(there), bytes=size_of(*there))
            return StoredKind(kind=kind, place=place, size=size, kept=kept, deleted_by=by)

        if settings.milvus.uri == EMBEDDED:
            yield folder(
                "chunks and vectors",
                "milvus",
                "while their documents are current",
                settings.home / "milvus",
                by="indexer",
            )
        yield folder("quantized models", "registry/models", "for ever", settings.registry_folder / "models")
        models = settings.models_folder
        converted = [each for each in models.iterdir() if each.name != "kafka"] if models.is_dir() else []
        yield folder("models", str(models), "for ever; homes may share them", *converted)
        yield folder("Kafka's program", str(models / "kafka"), "for ever; homes may share it", models / "kafka")
        logs = sorted((settings.run_folder / "logs").glob("*"))
        yield folder("logs", "run/logs", "the last 40 MB of each process", *logs, by="supervisor")
        yield folder("published files", "published.db", "for ever", *databases(settings.home / "published.db"))
