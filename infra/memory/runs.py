"""The in-memory twin of ``infra.sql.runs``."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from infra.leases import AT_ONCE, SeenLeases, is_due
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
    spared: int = 0

    def is_held_by_another(self, worker: str) -> bool:
        return self.run.state == "running" and self.run.worker != worker


@dataclass(frozen=True)
class _Lease:
    holder: str | None = None
    until: datetime | None = None
    last: datetime | None = None
    generation: int = 0


class MemoryRunStore:
    """Runs of long work. One worker at a time holds a run, by a lease that it must renew."""

    def __init__(self, database: MemoryDatabase, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``monotonic``: seconds, by which the leases of other workers are watched."""
        self._database = database
        self._seen: dict[str, SeenLeases] = defaultdict(lambda: SeenLeases(monotonic))

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
        at, kept = in_utc(at), _kept(arguments)
        run = Run(run_id=run_id, agent=agent, kind=kind, state="queued", attempt=0, arguments=kept, created_at=at)
        row = _Row(run=run, arguments=json.dumps(arguments), context=dict(context), created_at=at, due_at=AT_ONCE)
        with self._database.table("runs") as runs:
            runs.setdefault(run_id, row)

    def claim(self, agent: str, worker: str, *, now: datetime, lease_seconds: float) -> Claim | None:
        """Claims the oldest run that is due and that nobody holds, and counts the attempt.

        A worker that restarts under the same name gets its own run back at once. Another worker's run is free when this
        store has seen it without a renewal for ``lease_seconds``.
        """
        now = in_utc(now)
        with self._database.table("runs") as runs:
            rows = [row for row in runs.values() if row.run.agent == agent and row.run.state in ("queued", "running")]
            held = {each.run.run_id: each for each in rows if each.is_held_by_another(worker)}
            states = {run_id: (each.run.attempt, each.lease_until) for run_id, each in held.items()}
            free = self._seen[agent].expired(states, lease_seconds)
            free |= {each.run.run_id for each in rows if each.run.state == "running" and each.run.worker == worker}
            free |= {each.run.run_id for each in rows if each.run.state == "queued" and is_due(each.due_at, now)}
            due = [each for each in rows if each.run.run_id in free]
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
            spared=row.spared,
        )

    def renew(self, run_id: str, attempt: int, *, now: datetime, lease_seconds: float) -> bool:
        """Extends the lease. Returns False when this attempt does not hold the run any more."""
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, attempt)
            if row is None:
                return False
            runs[run_id] = replace(row, lease_until=in_utc(now) + timedelta(seconds=lease_seconds))
        return True

    def finish(self, run_id: str, attempt: int, *, state: str, result: dict[str, Any], now: datetime) -> bool:
        """Inside a transaction: ends a run as done or failed. Returns False when this attempt does not hold it."""
        if state not in ("done", "failed"):
            raise ValueError(f"a run ends as done or failed, not as {state!r}")
        ended: RunState = "done" if state == "done" else "failed"
        now = in_utc(now)
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, attempt)
            if row is None:
                return False
            run = replace(row.run, state=ended, result=_kept(result), finished_at=now)
            runs[run_id] = replace(row, run=run, lease_until=None)
        return True

    def release(
        self, run_id: str, attempt: int, *, now: datetime, retry_in_seconds: float, spare: bool = False
    ) -> None:
        """Puts the run back into the queue, due after that time. ``spare``: this attempt does not count.

        Does nothing when this attempt does not hold the run any more.
        """
        due = in_utc(now) + timedelta(seconds=retry_in_seconds)
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, attempt)
            if row is not None:
                run = replace(row.run, state="queued", worker=None)
                runs[run_id] = replace(row, run=run, lease_until=None, due_at=due, spared=row.spared + spare)

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

    def report(self, run_id: str, attempt: int, progress: dict[str, Any]) -> None:
        """Stores the progress of a run. Does nothing when this attempt does not hold the run any more."""
        with self._database.table("runs") as runs:
            row = _held(runs, run_id, attempt)
            if row is not None:
                runs[run_id] = replace(row, run=replace(row.run, progress=_kept(progress)))

    def _by_age(self, agent: str) -> list[Run]:
        with self._database.table("runs") as runs:
            rows = sorted(runs.values(), key=lambda row: (row.created_at, row.run.run_id))
        return [row.run for row in rows if row.run.agent == agent]


class MemoryLeases:
    """Named leases for work that one worker does at a time, such as ticks."""

    def __init__(self, database: MemoryDatabase, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``monotonic``: seconds, by which the leases of other workers are watched."""
        self._database = database
        self._seen: dict[str, SeenLeases] = defaultdict(lambda: SeenLeases(monotonic))

    def acquire(self, name: str, holder: str, *, now: datetime, seconds: float) -> bool:
        """Takes a lease that is free, or renews the holder's own. Returns whether it holds the lease.

        Another holder's lease becomes free when this store has seen it without a renewal for ``seconds``.
        """
        now = in_utc(now)
        with self._database.table("leases") as leases:
            lease = leases.get(name, _Lease())
            held = {name: (lease.holder, lease.until)}
            if lease.holder not in (None, holder) and not self._seen[name].expired(held, seconds):
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

    def generation(self, name: str) -> int:
        """Returns how often the scheduled times have started over."""
        with self._database.table("leases") as leases:
            lease: _Lease = leases.get(name, _Lease())
        return lease.generation

    def start_over(self, name: str, at: datetime, generation: int) -> bool:
        """Inside a transaction: stores a scheduled time that was done, also one before the stored time.

        Returns False, and changes nothing, where another worker has started this generation.
        """
        with self._database.table("leases") as leases:
            lease: _Lease = leases.get(name, _Lease())
            if lease.generation >= generation:
                return False
            leases[name] = replace(lease, last=in_utc(at), generation=generation)
        return True


def _kept(value: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON value as SQL would return it. Refuses NaN and infinity, as SQL's columns do."""
    kept: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return kept


def _held(runs: dict[str, _Row], run_id: str, attempt: int) -> _Row | None:
    row = runs.get(run_id)
    return row if row is not None and row.run.state == "running" and row.run.attempt == attempt else None
