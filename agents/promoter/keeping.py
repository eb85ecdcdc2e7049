"""Deletes adapters that nothing can return to, the datasets that only they needed, and old lines of the history.

The promoter does this and not the trainer, because it decides what is released. An adapter goes in two steps. First the
registry says that its files may go, and from then on no request promotes it. An hour later the files are deleted, if
it is still not in service.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from agents.delivery.ports import Runs
from agents.promoter import changes
from agents.promoter.ports import AdapterFolders, KeptAdapters, KeptDatasets, KeptReleases, Log
from schemas.delivery import Run
from schemas.errors import Unavailable
from schemas.policies import RetentionPolicy
from schemas.registry import AdapterRecord
from schemas.release_state import Release

GRACE = timedelta(hours=1)
"""Between the mark in the registry and the deletion, so that a promotion that was under way is seen."""
MOST = 50
"""Adapters, or datasets, of one call."""
WORKERS_WITH_DATASETS = ("trainer", "validator")
"""The agents whose runs read datasets and adapters."""


class Keeper:
    """Deletes what releases need no more. Every method may be called again, and raises Unavailable."""

    def __init__(
        self,
        *,
        releases: KeptReleases,
        registry: KeptAdapters,
        adapters: AdapterFolders,
        datasets: KeptDatasets,
        runs: Runs,
        transaction: Callable[[], AbstractContextManager[None]],
        policy: RetentionPolicy,
        log: Log,
        baseline: Callable[[str], int | None],
    ) -> None:
        """``baseline`` gives the release from which a task's newest drift check compared, None without a check."""
        self._releases, self._registry, self._adapters = releases, registry, adapters
        self._datasets, self._runs, self._transaction = datasets, runs, transaction
        self._policy, self._log, self._baseline = policy, log, baseline
        self._distrusted: set[str] = set()

    def prune_history(self, now: datetime) -> int:
        """Deletes old lines of the history. The state itself says which champions a rollback returns to."""
        before = now - timedelta(days=self._policy.release_days)
        deleted = 0
        for task in [each.task for each in self._releases.all()]:
            with self._transaction():
                release = self._releases.current(task)
                if release.earlier is None:  # an earlier version wrote it, and only the history says it
                    self._releases.amend(changes.with_earlier(release, self._releases.history(task)))
                below = min(release.sequence, release.since_sequence or release.sequence)
                deleted += self._releases.prune_history(task, below=below, before=before)
        return deleted

    def prune_tallies(self, now: datetime) -> int:
        """Deletes the tallies of old releases, by which neither a canary nor a drift check decides; returns how many.

        ``now`` does not matter: the tallies of a release go after the last of its answers.
        """
        deleted = 0
        for release in self._releases.all():
            baseline = self._baseline(release.task)
            if baseline is not None:
                below = min(baseline, release.since_sequence)
                deleted += self._releases.prune_tallies(release.task, below=below)
        return deleted

    def remove_adapters(self, now: datetime) -> int:
        """Deletes the files of adapters that were not in service for long; returns how many."""
        present = set(self._adapters.ids())
        if not present:
            return 0  # the registry need not be loaded
        deleted = 0
        for task, records, release in self._by_task():
            removable = {each.adapter_id for each in removable_adapters(records, release, now, self._policy)}
            removable -= self._in_work(task)
            for record in records:
                if record.adapter_id not in removable:
                    if record.removed_at is not None and record.adapter_id in present:
                        self._registry.mark_removed(record.adapter_id, None)
                elif record.removed_at is None:
                    self._registry.mark_removed(record.adapter_id, now)
                elif record.removed_at <= now - GRACE and record.adapter_id in present and deleted < MOST:
                    deleted += self._remove(record)
        return deleted

    def remove_datasets(self, now: datetime) -> int:
        """Deletes old datasets that no adapter needs; returns how many."""
        old = self._datasets.older(now - timedelta(days=self._policy.dataset_days))
        busy = {task for task in {each.task for each in old} if self._unfinished(task)}
        if not old:
            return 0
        known = {task: records for task, records, _ in self._by_task()}
        deleted = 0
        for manifest in old:
            records = known.get(manifest.task)
            if records is None and manifest.task in self._distrusted:
                continue
            if manifest.task in busy or manifest.dataset_id in needed_datasets(records or ()) or deleted == MOST:
                continue
            with self._transaction():
                # Inside the transaction no training can begin, and one that began before is seen.
                if not self._unfinished(manifest.task):
                    self._datasets.remove(manifest.dataset_id)
                    deleted += 1
        return deleted

    def forget_adapters(self, now: datetime) -> int:
        """Deletes the registry's entries of adapters whose files went long ago; returns how many."""
        present = set(self._adapters.ids())
        before = now - timedelta(days=self._policy.registry_days)
        forgotten = 0
        for _, records, release in self._by_task() if present else ():
            newest = newest_validated(records)
            for record in records:
                gone = record.removed_at is not None and record.adapter_id not in present
                kept = record is newest or record.aliases or (release and record.adapter_id in release.adapters)
                if gone and not kept and record.created_at < before and forgotten < MOST:
                    self._registry.forget(record.adapter_id)
                    forgotten += 1
        return forgotten

    def _by_task(self) -> Iterable[tuple[str, list[AdapterRecord], Release | None]]:
        """Returns each task's adapters and release, without the tasks of which the two stores say different things.

        They do for a moment after a release. They do so for good when one of the two is another home's.
        """
        records: dict[str, list[AdapterRecord]] = {}
        for record in self._registry.adapters():
            records.setdefault(record.task, []).append(record)
        releases = {each.task: each for each in self._releases.all()}
        self._distrusted = set()
        found = []
        for task in sorted(records.keys() | releases.keys()):
            release = releases.get(task)
            if release is not None and release.earlier is None:
                release = changes.with_earlier(release, self._releases.history(task))
            if agree(records.get(task, []), release):
                found.append((task, records.get(task, []), release))
            else:
                self._distrusted.add(task)
                self._log("nothing is deleted: the registry and the releases differ", task=task)
        return found

    def _in_work(self, task: str) -> set[str]:
        """The adapters that a queued or running run names."""
        names = ("adapter_id", "champion")
        return {str(run.arguments.get(name)) for run in self._unfinished_runs(task) for name in names}

    def _unfinished(self, task: str) -> bool:
        return next(iter(self._unfinished_runs(task)), None) is not None

    def _unfinished_runs(self, task: str) -> list[Run]:
        return [
            run
            for agent in WORKERS_WITH_DATASETS
            for run in self._runs.unfinished(agent)
            if run.arguments.get("task") == task
        ]

    def _remove(self, record: AdapterRecord) -> int:
        try:
            return int(self._adapters.remove(record.adapter_id))
        except Unavailable as error:  # the others can still be deleted
            self._log("not deleted", adapter=record.adapter_id, reason=str(error))
            return 0


def removable_adapters(
    records: Sequence[AdapterRecord], release: Release | None, now: datetime, policy: RetentionPolicy
) -> list[AdapterRecord]:
    """Returns the adapters of one task that are old enough, do not serve, and that no rollback returns to."""
    kept: Collection[str] = release.adapters if release is not None else ()
    return [
        each
        for each in records
        if each.adapter_id not in kept
        and not each.aliases
        and each.created_at
        < now - timedelta(days=policy.rejected_adapter_days if each.state == "rejected" else policy.adapter_days)
    ]


def needed_datasets(records: Sequence[AdapterRecord]) -> set[str]:
    """Returns the datasets of one task that must stay: those of adapters with files, and the newest validated one's.

    The trainer reads from the latter what was learned already.
    """
    newest = newest_validated(records)
    return {each.dataset_id for each in records if each.removed_at is None or each is newest}


def newest_validated(records: Sequence[AdapterRecord]) -> AdapterRecord | None:
    """Returns the newest adapter that was validated. ``records``: newest first."""
    return next((each for each in records if each.state == "validated"), None)


def agree(records: Sequence[AdapterRecord], release: Release | None) -> bool:
    """Whether the registry knows every adapter that the release names, and calls the same one champion."""
    known = {each.adapter_id for each in records}
    champions = {each.adapter_id for each in records if "champion" in each.aliases}
    if release is None:
        return not champions
    return release.adapters <= known and champions == ({release.champion} if release.champion else set())
