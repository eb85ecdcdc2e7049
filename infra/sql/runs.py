"""Runs and leases in SQL, for work that only one worker may do at a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, Update, and_, bindparam, func, or_, select, update

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

    def __init__(self, database: Database) -> None:
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
        row = {
            "agent": agent,
            "run_id": run_id,
            "kind": kind,
            "arguments": arguments,
            "context": context,
            "state": "queued",
            "attempt": 0,
            "due_at": at,
            "result": {},
            "created_at": at,
        }
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.runs), row)

    def claim(self, agent: str, worker: str, *, now: datetime, lease_seconds: float) -> Claim | None:
        """Claims the oldest run that is due and whose lease is free or has expired, and counts the attempt.

        A worker that restarts under the same name gets its own run back at once.
        """
        oldest = (
            select(_runs.run_id, _runs.kind, _runs.arguments, _runs.context, _runs.attempt)
            .where(_runs.agent == agent, _claimable(now, worker))
            .order_by(_runs.created_at, _runs.run_id)
            .limit(1)
        )
        # Workers ask every second and seldom get a run, so look without a lock first.
        with self._database.connection() as connection:
            if connection.execute(oldest).first() is None:
                return None
        with self._database.connection(write=True) as connection:
            # SQLite has no such lock and needs none: its transaction locks the whole database.
            row = connection.execute(oldest.with_for_update(skip_locked=True)).mappings().first()
            if row is None:
                return None
            attempt = row["attempt"] + 1
            connection.execute(
                update(tables.runs)
                .where(_runs.run_id == row["run_id"])
                .values(
                    state="running",
                    worker=worker,
                    attempt=attempt,
                    lease_until=_after(now, lease_seconds),
                    started_at=func.coalesce(_runs.started_at, bindparam("began", now, tables.UtcMoment)),
                )
            )
        return Claim(
            run_id=row["run_id"],
            kind=row["kind"],
            arguments=row["arguments"],
            context=row["context"],
            attempt=attempt,
        )

    def renew(self, run_id: str, worker: str, *, now: datetime, lease_seconds: float) -> bool:
        """Extends the lease. Returns False when another worker holds the run."""
        return self._changed(_held(run_id, worker).values(lease_until=_after(now, lease_seconds)))

    def finish(self, run_id: str, worker: str, *, state: str, result: dict[str, Any], now: datetime) -> bool:
        """Inside a transaction: ends a run as done or failed. Returns False when another worker holds the run."""
        if state not in ("done", "failed"):
            raise ValueError(f"a run ends as done or failed, not as {state!r}")
        return self._changed(
            _held(run_id, worker).values(state=state, result=result, finished_at=now, lease_until=None)
        )

    def release(self, run_id: str, worker: str, *, now: datetime, retry_in_seconds: float) -> None:
        """Puts the run back into the queue, due after that time. Does nothing when another worker holds the run."""
        due = _after(now, retry_in_seconds)
        self._changed(_held(run_id, worker).values(state="queued", worker=None, lease_until=None, due_at=due))

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
        newest = select(*_SHOWN).where(_runs.agent == agent).order_by(_runs.created_at.desc(), _runs.run_id)
        with self._database.connection() as connection:
            rows = (_run(row) for row in connection.execute(newest).mappings())
            return list(islice((run for run in rows if run.arguments.get("task") == task), limit))

    def prune(self, agent: str, before: datetime) -> int:
        """Deletes runs that ended before then, a bounded number; returns how many."""
        ended = _runs.state.in_(("done", "failed"))
        return prune(self._database, tables.runs, _runs.agent == agent, _runs.finished_at < before, ended)

    def report(self, run_id: str, worker: str, progress: dict[str, Any]) -> None:
        """Stores the progress of a run. Does nothing when another worker holds the run."""
        self._changed(_held(run_id, worker).values(progress=progress))

    def _changed(self, statement: Update) -> bool:
        with self._database.connection(write=True) as connection:
            return connection.execute(statement).rowcount == 1


class SqlLeases:
    """Named leases for work that one worker does at a time, such as ticks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, *, now: datetime, seconds: float) -> bool:
        """Takes a lease that is free or expired, or renews the holder's own. Returns whether it holds the lease."""
        statement = insert(self._database.dialect, tables.leases)
        free = or_(_leases.holder.is_(None), _leases.holder == holder, _leases.until <= now)
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


def _run(row: RowMapping) -> Run:
    return Run(**{**row, "progress": row["progress"] or {}})


def _claimable(now: datetime, worker: str) -> ColumnElement[bool]:
    queued = and_(_runs.state == "queued", _runs.due_at <= now)
    return or_(queued, and_(_runs.state == "running", or_(_runs.lease_until <= now, _runs.worker == worker)))


def _held(run_id: str, worker: str) -> Update:
    return update(tables.runs).where(_runs.run_id == run_id, _runs.worker == worker, _runs.state == "running")


def _after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)
