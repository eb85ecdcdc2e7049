"""Deletes the working folders of runs that ended, on this machine. What a run made is elsewhere by then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from agents.delivery.ports import RunStore
from schemas.delivery import Run
from schemas.policies import RetentionPolicy

log = structlog.get_logger()

MOST = 100
"""Folders of one call."""


@dataclass(frozen=True, kw_only=True)
class RunFolders:
    """The folders of one agent's runs, below ``folder``, each named by its run's id."""

    agent: str
    folder: Path
    runs: RunStore
    policy: RetentionPolicy
    remove: Callable[[Path], object] = shutil.rmtree

    def clean(self, now: datetime) -> int:
        """Deletes the folders that are old enough, at most ``MOST``; returns how many. Raises Unavailable."""
        deleted = 0
        soonest = now - timedelta(days=min(self.policy.run_folder_days, self.policy.failed_run_folder_days))
        for path, changed_at in self._folders():
            if deleted == MOST:
                break
            if changed_at < soonest and is_expired(self.runs.show(path.name), self.agent, changed_at, now, self.policy):
                try:
                    self.remove(path)
                except FileNotFoundError:
                    pass  # another worker has deleted it
                except OSError as error:
                    log.warning("not deleted", folder=str(path), reason=str(error))
                else:
                    deleted += 1
        return deleted

    def _folders(self) -> list[tuple[Path, datetime]]:
        found = []
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            try:
                changed = path.stat().st_mtime
            except FileNotFoundError:
                continue
            if path.is_dir() and not path.is_symlink():
                found.append((path, datetime.fromtimestamp(changed, UTC)))
        return found


def is_expired(run: Run | None, agent: str, changed_at: datetime, now: datetime, policy: RetentionPolicy) -> bool:
    """Decides whether a folder may go: never while its run is queued or running.

    ``run``: None where there is no row any more. ``changed_at``: of the folder.
    """
    if run is None:
        return changed_at < now - timedelta(days=policy.failed_run_folder_days)
    if run.agent != agent or run.finished_at is None or run.state not in ("done", "failed"):
        return False
    days = policy.run_folder_days if run.state == "done" else policy.failed_run_folder_days
    return run.finished_at < now - timedelta(days=days)
