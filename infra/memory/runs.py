"""The in-memory twin of ``infra.sql.runs``."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from infra.memory.database import MemoryDatabase, in_utc
from schemas.delivery import Claim, Run, RunState


@dataclass(frozen=True, kw_only=True)
class _Row:
    run: Run
    arguments: str
    context: dict[str, str]
    created_at: datetime
    due_at: datetime
    lease_until: datetime | None = None

    def is_claimable(self, now: datetime, worker: str) -> bool:
        if self.run.state == "running":
            return self.run.worker == worker or (self.lease_until is not None and self.lease_until <= now)
        return self.run.state == "queued" and self.due_at <= now


@dataclass(frozen=True)
class _Lease:
    holder: str | None = None
    until: datetime | None = None
    last: datetime | None = None


class MemoryRunStore:
    """Runs of long work. One worker at a time holds a run, by a lease that it must renew."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(
        self,
        agent: str,
        run_id: str,
        kind: str,
        arguments: dict[str, Any],
        context: dict[str, str],
        at: datetime,
    ) -> None:
        """Inside a transaction: queues a run; a second call with the same id changes nothing."""
        at, kept = in_utc(at), json.loads(json.dumps(arguments))
        run = Run(run_id=run_id, agent=agent, kind=kind, state="queued", attempt=0, arguments=kept, created_at=at)
        row = _Row(run=run, arguments=json.dumps(arguments), context=dict(context), created_at=at, due_at=at)
        with self._database.table("runs") as runs:
            runs.setdefault(run_id, row)

    def claim(self, agent: str, worker: str, *, now: datetime, lease_seconds: float) -> Claim | None:
        """Claims the oldest run that is due and whose lease is free or has expired, and counts the attempt.

        A worker that restarts under the same name gets its own run back at once.
        """
        now = in_utc(now)
        with self._database.table("runs") as runs:
            due = [row for row in runs.values() if row.run.agent == agent and row.is_claimable(now, worker)]
            if not due:
                return None
            row = min(due, key=lambda each: (each.created_at, each.run.run_id))
            began = row.run.started_at or now
            run = replace(row.run, state="running", worker=worker, attempt=row.run.attempt + 1, started_at=began)
            runs[run.run_id] = replace(row, run=run, lease_until=now + timedelta(seconds=lease_seconds))
        return Claim(
            run_id=run.run_id,
            kind=run.kind,
            arguments=json.loads(row.arguments),
            context=dict(row.context),
            attempt=run.attempt,
        )

    def renew(self, run_id: str, worker: str, *, now: datetime, lease_seconds: float) -> bool:
        """Extends the lease. Returns False when another worker holds the run."""
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, worker)
            if row is None:
                return False
            runs[run_id] = replace(row, lease_until=in_utc(now) + timedelta(seconds=lease_seconds))
        return True

    def finish(self, run_id: str, worker: str, *, state: str, result: dict[str, Any], now: datetime) -> bool:
        """Inside a transaction: ends a run as done or failed. Returns False when another worker holds the run."""
        if state not in ("done", "failed"):
            raise ValueError(f"a run ends as done or failed, not as {state!r}")
        ended: RunState = "done" if state == "done" else "failed"
        now = in_utc(now)
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, worker)
            if row is None:
                return False
            run = replace(row.run, state=ended, result=json.loads(json.dumps(result)), finished_at=now)
            runs[run_id] = replace(row, run=run, lease_until=None)
        return True

    def release(self, run_id: str, worker: str, *, now: datetime, retry_in_seconds: float) -> None:
        """Puts the run back into the queue, due after that time. Does nothing when another worker holds the run."""
        due = in_utc(now) + timedelta(seconds=retry_in_seconds)
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, worker)
            if row is not None:
                run = replace(row.run, state="queued", worker=None)
                runs[run_id] = replace(row, run=run, lease_until=None, due_at=due)

    def show(self, run_id: str) -> Run | None:
        """Returns a run, or None."""
        with self._database.table("runs") as runs:
            row = runs.get(run_id)
        return None if row is None else row.run

    def unfinished(self, agent: str) -> list[Run]:
        """Returns queued and running runs, oldest first. Inside a transaction nobody else adds one until it ends."""
        return [run for run in self._by_age(agent) if run.state in ("queued", "running")]

    def of_task(self, agent: str, task: str, limit: int) -> list[Run]:
        """Returns the agent's runs whose arguments name the task, newest first."""
        return [run for run in reversed(self._by_age(agent)) if run.arguments.get("task") == task][:limit]

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes runs that ended before then; returns how many."""
        before = in_utc(before)
        with self._database.table("runs") as runs:
            old = [
                run_id
                for run_id, row in runs.items()
                if row.run.agent == agent and row.run.finished_at is not None and row.run.finished_at < before
            ]
            for run_id in old:
                del runs[run_id]
        return len(old)

    def report(self, run_id: str, worker: str, progress: dict[str, Any]) -> None:
        """Stores the progress of a run. Does nothing when another worker holds the run."""
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, worker)
            if row is not None:
                runs[run_id] = replace(row, run=replace(row.run, progress=json.loads(json.dumps(progress))))

    def _by_age(self, agent: str) -> list[Run]:
        with self._database.table("runs") as runs:
            rows = sorted(runs.values(), key=lambda row: (row.created_at, row.run.run_id))
        return [row.run for row in rows if row.run.agent == agent]


class MemoryLeases:
    """Named leases for work that one worker does at a time, such as ticks."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, *, now: datetime, seconds: float) -> bool:
        """Takes a lease that is free or expired, or renews the holder's own. Returns whether it holds the lease."""
        now = in_utc(now)
        with self._database.table("leases") as leases:
            lease = leases.get(name, _Lease())
            if lease.holder not in (None, holder) and lease.until > now:
                return False
            leases[name] = replace(lease, holder=holder, until=now + timedelta(seconds=seconds))
        return True

    def last(self, name: str) -> datetime | None:
        """Returns the last scheduled time that was done."""
        with self._database.table("leases") as leases:
            lease: _Lease = leases.get(name, _Lease())
        return lease.last

    def set_last(self, name: str, at: datetime) -> bool:
        """Inside a transaction: stores a scheduled time that was done. Returns False, and changes nothing, where it
        is not after the stored time."""
        at = in_utc(at)
        with self._database.table("leases") as leases:
            lease = leases.get(name, _Lease())
            if lease.last is not None and lease.last >= at:
                return False
            leases[name] = replace(lease, last=at)
        return True


def _held(runs: dict[str, _Row], run_id: str, worker: str) -> _Row | None:
    row = runs.get(run_id)
    return row if row is not None and row.run.state == "running" and row.run.worker == worker else None
