"""The release state of each task in SQL, changed by compare-and-set; its history, and how its answers turned out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import datetime

from sqlalchemy import ColumnElement, case, delete, func, select, update

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once
from schemas.errors import Unavailable
from schemas.release_state import RELEASE, ArmCounts, Release, ReleaseChange

_releases = tables.releases.c
_history = tables.release_history.c
_rows = tables.interactions.c
_JUDGED = ("approved", "disapproved", "corrected")
_BAD = ("disapproved", "corrected")


class SqlReleases:
    """Stores which adapter each task is served with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def lock(self, tasks: Iterable[str]) -> None:
        """Inside a transaction: locks the releases of these tasks until it ends."""
        with self._database.connection() as connection:
            self._database.lock(connection, (f"release of {task}" for task in tasks))

    def current(self, task: str) -> Release:
        """Returns a task's release, with sequence 0 where there is none yet. A transaction locks it until it ends.

        Call ``lock`` first for several tasks: two transactions that lock them one by one can block each other.
        """
        if self._database.current is not None:
            self.lock([task])
        with self._database.connection() as connection:
            state = connection.execute(select(_releases.state).where(_releases.task == task)).scalar()
        return Release(task=task) if state is None else RELEASE.validate_python(state)

    def all(self) -> list[Release]:
        """Returns the release of every task that has one, without a lock."""
        with self._database.connection() as connection:
            return [RELEASE.validate_python(state) for state in connection.execute(select(_releases.state)).scalars()]

    def change(self, release: Release, *, event_type: str, cause: str | None, at: datetime) -> None:
        """Inside a transaction: writes the next state and a line of the history.

        Raises Unavailable when the sequence before it is not the current one: read again and decide again.
        """
        values = {"sequence": release.sequence, "state": RELEASE.dump_python(release, mode="json"), "changed_at": at}
        line = {"event_type": event_type, "cause": cause, "at": at, "state": RELEASE.dump_python(release, mode="json")}
        with self._database.transaction(), self._database.connection(write=True) as connection:
            if release.sequence == 1:
                statement = insert_once(self._database.dialect, tables.releases)
                made = connection.execute(
                    statement.values(task=release.task, **values).returning(_releases.task)
                ).first()
                changed = made is not None
            else:
                changed = self._set(release.task, release.sequence - 1, values)
            if not changed:
                raise Unavailable(f"another process changed the release of {release.task}: try again")
            connection.execute(
                tables.release_history.insert(), {"task": release.task, "sequence": release.sequence, **line}
            )

    def amend(self, release: Release) -> None:
        """Inside a transaction: changes the current state without an event and without a line of the history.

        Raises Unavailable when the sequence is not the current one.
        """
        if not self._set(release.task, release.sequence, {"state": RELEASE.dump_python(release, mode="json")}):
            raise Unavailable(f"another process changed the release of {release.task}: try again")

    def history(self, task: str, limit: int | None = None) -> list[ReleaseChange]:
        """Returns the changes of a task's release, newest first."""
        newest = select(tables.release_history).where(_history.task == task).order_by(_history.sequence.desc())
        with self._database.connection() as connection:
            rows = connection.execute(newest.limit(limit)).mappings().all()
        return [
            ReleaseChange(
                release=RELEASE.validate_python(row["state"]),
                event_type=row["event_type"],
                cause=row["cause"],
                at=row["at"],
            )
            for row in rows
        ]

    def prune_history(self, task: str, *, below: int, before: datetime) -> int:
        """Deletes the changes below a sequence that were made before a time; returns how many."""
        old = delete(tables.release_history).where(
            _history.task == task, _history.sequence < below, _history.at < before
        )
        with self._database.connection(write=True) as connection:
            return connection.execute(old).rowcount

    def counts(self, task: str, *, sequence: int, since: datetime) -> list[ArmCounts]:
        """Counts a task's questions by release and arm, from a sequence and a time on.

        The time makes the query fast, because the table has an index by task and time.
        """
        counted = (
            select(
                _rows.release_sequence,
                _rows.arm,
                func.count(),
                _number(_rows.outcome == "failed"),
                _number(_rows.outcome.in_(_JUDGED)),
                _number(_rows.outcome.in_(_BAD)),
            )
            .where(_rows.task == task, _rows.answered_at >= since, _rows.release_sequence >= sequence)
            .group_by(_rows.release_sequence, _rows.arm)
            .order_by(_rows.release_sequence, _rows.arm)
        )
        with self._database.connection() as connection:
            return [ArmCounts(**dict(zip(_COUNTS, row, strict=True))) for row in connection.execute(counted)]

    def _set(self, task: str, sequence: int, values: Mapping[str, object]) -> bool:
        statement = update(tables.releases).where(_releases.task == task, _releases.sequence == sequence)
        with self._database.connection(write=True) as connection:
            return connection.execute(statement.values(**values)).rowcount == 1


_COUNTS = tuple(field.name for field in fields(ArmCounts))


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
