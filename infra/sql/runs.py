"""Runs and leases in SQL, for work that only one worker may do at a time."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, RowMapping, Update, and_, bindparam, func, or_, select, update

from infra.leases import AT_ONCE, SeenLeases, is_due
from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert, insert_once, prune
from schemas.delivery import Claim, Run

_runs = tables.runs.c
_leases = tables.leases.c
_SHOWN = (
    _runs.run_id,
    _runs.agent,
    _runs.kind,
    _runs.state,
    _runs.attempt,
    _runs.worker,
    _runs.arguments,
    _runs.progress,
    _runs.created_at,
    _runs.started_at,
    _runs.finished_at,
    _runs.result,
)


class SqlRunStore:
    """Runs of long work. One worker at a time holds a run, by a lease that it must renew."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
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
        row = {
            "agent": agent,
            "run_id": run_id,
            "kind": kind,
            "arguments": arguments,
            "context": context,
            "state": "queued",
            "attempt": 0,
            "spared": 0,
            "due_at": AT_ONCE,
            "result": {},
            "created_at": at,
            "task": arguments.get("task"),
        }
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.runs), row)

    def claim(self, agent: str, worker: str, *, now: datetime, lease_seconds: float) -> Claim | None:
        """Claims the oldest run that is due and that nobody holds, and counts the attempt.

        A worker that restarts under the same name gets its own run back at once. Another worker's run is free when this
        store has seen it without a renewal for ``lease_seconds``.
        """
        columns = (_runs.run_id, _runs.state, _runs.worker, _runs.attempt, _runs.lease_until, _runs.due_at)
        unfinished = (
            select(*columns)
            .where(_runs.agent == agent, _runs.state.in_(("queued", "running")))
            .order_by(_runs.created_at, _runs.run_id)
        )
        # Workers ask every second and seldom get a run, so look without a lock first.
        with self._database.connection() as connection:
            rows = connection.execute(unfinished).all()
        held = [row for row in rows if row.state == "running" and row.worker != worker]
        expired = self._seen[agent].expired({row.run_id: (row.attempt, row.lease_until) for row in held}, lease_seconds)
        own = {row.run_id for row in rows if row.state == "running" and row.worker == worker}
        due = {row.run_id for row in rows if row.state == "queued" and is_due(row.due_at, now)}
        for row in rows:
            if row.run_id in own | due | expired and (claim := self._take(row, worker, now, lease_seconds)) is not None:
                return claim
        return None

    def _take(self, seen: Row[*tuple[Any, ...]], worker: str, now: datetime, lease_seconds: float) -> Claim | None:
        """Claims a run if it is still as it was seen."""
        unchanged = and_(
            _runs.run_id == seen.run_id,
            _runs.state == seen.state,
            _runs.attempt == seen.attempt,
            _runs.lease_until.is_not_distinct_from(seen.lease_until),
        )
        wanted = select(_runs.run_id, _runs.kind, _runs.arguments, _runs.context, _runs.spared).where(unchanged)
        with self._database.connection(write=True) as connection:
            # SQLite has no such lock and needs none: its transaction locks the whole database.
            row = connection.execute(wanted.with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return None
            connection.execute(
                update(tables.runs)
                .where(_runs.run_id == seen.run_id)
                .values(
                    state="running",
                    worker=worker,
                    attempt=seen.attempt + 1,
                    lease_until=_after(now, lease_seconds),
                    started_at=func.coalesce(_runs.started_at, bindparam("began", now, tables.UtcMoment)),
                )
            )
        return Claim(
            run_id=row["run_id"],
            kind=row["kind"],
            arguments=row["arguments"],
            context=row["context"],
            attempt=seen.attempt + 1,
            spared=row["spared"],
        )

    def renew(self, run_id: str, attempt: int, *, now: datetime, lease_seconds: float) -> bool:
        """Extends the lease. Returns False when this attempt does not hold the run any more."""
        return self._changed(_held(run_id, attempt).values(lease_until=_after(now, lease_seconds)))

    def finish(self, run_id: str, attempt: int, *, state: str, result: dict[str, Any], now: datetime) -> bool:
        """Inside a transaction: ends a run as done or failed. Returns False when this attempt does not hold it."""
        if state not in ("done", "failed"):
            raise ValueError(f"a run ends as done or failed, not as {state!r}")
        return self._changed(
            _held(run_id, attempt).values(state=state, result=result, finished_at=now, lease_until=None)
        )

    def release(
        self, run_id: str, attempt: int, *, now: datetime, retry_in_seconds: float, spare: bool = False
    ) -> None:
        """Puts the run back into the queue, due after that time. ``spare``: this attempt does not count.

        Does nothing when this attempt does not hold the run any more.
        """
        queued = {"state": "queued", "worker": None, "lease_until": None, "due_at": _after(now, retry_in_seconds)}
        self._changed(_held(run_id, attempt).values(spared=_runs.spared + int(spare), **queued))

    def show(self, run_id: str) -> Run | None:
        """Returns a run, or None."""
        with self._database.connection() as connection:
            row = connection.execute(select(*_SHOWN).where(_runs.run_id == run_id)).mappings().first()
        return None if row is None else _run(row)

    def unfinished(self, agent: str) -> list[Run]:
        """Returns queued and running runs, oldest first. Inside a transaction nobody else adds one until it ends."""
        unfinished = select(*_SHOWN).where(_runs.agent == agent, _runs.state.in_(("queued", "running")))
        with self._database.connection() as connection:
            if self._database.current is not None:
                self._database.lock(connection, [f"runs of {agent}"])
            rows = connection.execute(unfinished.order_by(_runs.created_at, _runs.run_id)).mappings().all()
        return [_run(row) for row in rows]

    def of_task(self, agent: str, task: str, limit: int) -> list[Run]:
        """Returns the agent's runs whose arguments name the task, newest first."""
        newest = select(*_SHOWN).where(_runs.agent == agent, _runs.task == task)
        newest = newest.order_by(_runs.created_at.desc(), _runs.run_id).limit(limit)
        with self._database.connection() as connection:
            return [_run(row) for row in connection.execute(newest).mappings()]

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes runs that ended before then, a bounded number; returns how many."""
        ended = _runs.state.in_(("done", "failed"))
        return prune(self._database, tables.runs, _runs.agent == agent, _runs.finished_at < before, ended)

    def report(self, run_id: str, attempt: int, progress: dict[str, Any]) -> None:
        """Stores the progress of a run. Does nothing when this attempt does not hold the run any more."""
        self._changed(_held(run_id, attempt).values(progress=progress))

    def _changed(self, statement: Update) -> bool:
        with self._database.connection(write=True) as connection:
            return connection.execute(statement).rowcount == 1


class SqlLeases:
    """Named leases for work that one worker does at a time, such as ticks."""

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        """``monotonic``: seconds, by which the leases of other workers are watched."""
        self._database = database
        self._seen: dict[str, SeenLeases] = defaultdict(lambda: SeenLeases(monotonic))

    def acquire(self, name: str, holder: str, *, now: datetime, seconds: float) -> bool:
        """Takes a lease that is free, or renews the holder's own. Returns whether it holds the lease.

        Another holder's lease becomes free when this store has seen it without a renewal for ``seconds``.
        """
        with self._database.connection() as connection:
            row = connection.execute(select(_leases.holder, _leases.until).where(_leases.name == name)).first()
        free = or_(_leases.holder.is_(None), _leases.holder == holder)
        if row is not None and row.holder not in (None, holder):
            if not self._seen[name].expired({name: (row.holder, row.until)}, seconds):
                return False
            free = or_(free, and_(_leases.holder == row.holder, _leases.until == row.until))
        statement = insert(self._database.dialect, tables.leases)
        wanted: Mapping[str, object] = {"holder": holder, "until": _after(now, seconds)}
        take = statement.values(name=name, **wanted).on_conflict_do_update(
            index_elements=["name"], set_=wanted, where=free
        )
        # An insert on PostgreSQL reports no count of rows, so ask for the row.
        with self._database.connection(write=True) as connection:
            return connection.execute(take.returning(_leases.name)).first() is not None

    def last(self, name: str) -> datetime | None:
        """Returns the last scheduled time that was done."""
        with self._database.connection() as connection:
            return connection.execute(select(_leases.last).where(_leases.name == name)).scalar()

    def set_last(self, name: str, at: datetime) -> bool:
        """Inside a transaction: stores a scheduled time that was done. Returns False, and changes nothing, where it
        is not after the stored time."""
        later = or_(_leases.last.is_(None), _leases.last < at)
        statement = insert(self._database.dialect, tables.leases).values(name=name, last=at)
        with self._database.connection(write=True) as connection:
            changed = statement.on_conflict_do_update(index_elements=["name"], set_={"last": at}, where=later)
            return connection.execute(changed.returning(_leases.name)).first() is not None

    def generation(self, name: str) -> int:
        """Returns how often the scheduled times have started over."""
        with self._database.connection() as connection:
            return connection.execute(select(_leases.generation).where(_leases.name == name)).scalar() or 0

    def start_over(self, name: str, at: datetime, generation: int) -> bool:
        """Inside a transaction: stores a scheduled time that was done, also one before the stored time.

        Returns False, and changes nothing, where another worker has started this generation.
        """
        statement = insert(self._database.dialect, tables.leases).values(name=name, last=at, generation=generation)
        changed = {"last": at, "generation": generation}
        with self._database.connection(write=True) as connection:
            first = func.coalesce(_leases.generation, 0) < generation
            started = statement.on_conflict_do_update(index_elements=["name"], set_=changed, where=first)
            return connection.execute(started.returning(_leases.name)).first() is not None


def _run(row: RowMapping) -> Run:
    return Run(**{**row, "progress": row["progress"] or {}})


def _held(run_id: str, attempt: int) -> Update:
    return update(tables.runs).where(_runs.run_id == run_id, _runs.attempt == attempt, _runs.state == "running")


def _after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
