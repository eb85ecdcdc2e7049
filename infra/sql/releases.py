"""The release state of each task in SQL, changed by compare-and-set; its history, and how its answers turned out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Double, and_, case, cast, delete, exists, func, literal, select, text, update

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once, prune
from schemas.errors import Unavailable
from schemas.guardrails import STEPS
from schemas.release_state import RELEASE, ArmCounts, Release, ReleaseChange

_releases = tables.releases.c
_history = tables.release_history.c
_users = tables.user_tallies.c


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

    def prune_tallies(self, task: str, *, below: int) -> int:
        """Deletes the tallies of releases below a sequence of which no answer is left; returns how many."""
        rows, deleted = tables.interactions.c, 0
        for table in (tables.arm_tallies, tables.user_tallies):
            same = and_(
                rows.task == table.c.task, rows.arm == table.c.arm, rows.release_sequence == table.c.release_sequence
            )
            left = exists().where(same, tables.HAS_ANSWER)
            old = (table.c.task == task, table.c.release_sequence < below, ~left)
            deleted += prune(self._database, table, *old)
        return deleted

    def counts(self, task: str, *, sequence: int) -> list[ArmCounts]:
        """Returns by release and arm how a task's users were answered, from a sequence on; each user counts once.

        It reads each user's tally once, and gets a row back for each pair of steps of latency and length.
        """
        slow, long = _step(_users.latency_ms // _answered), _step(_users.characters // _answered)
        counted = (
            select(_users.release_sequence, _users.arm, slow.label("slow"), long.label("long"), *_SUMS)
            .where(_users.task == task, _users.release_sequence >= sequence)
            .group_by(_users.release_sequence, _users.arm, text("slow"), text("long"))
            .order_by(_users.release_sequence, _users.arm)
        )
        with self._database.connection() as connection:
            rows = connection.execute(counted).all()
        found = []
        for (of, arm), group in groupby(rows, key=lambda row: (row[0], row[1])):
            some = list(group)
            asked, failed, judged, bad, answered, declined, asked_back = (
                sum(row[place] or 0 for row in some) for place in range(4, 11)
            )
            if asked or judged:
                found.append(
                    ArmCounts(
                        sequence=of, arm=arm, asked=int(asked), failed=failed, judged=int(judged), bad=bad,
                        answered=int(answered), declined=declined, asked_back=asked_back,
                        slowness=_users_of((row[2], row[8]) for row in some),
                        length=_users_of((row[3], row[8]) for row in some),
                    )
                )  # fmt: skip
        return found

    def _set(self, task: str, sequence: int, values: Mapping[str, object]) -> bool:
        statement = update(tables.releases).where(_releases.task == task, _releases.sequence == sequence)
        with self._database.connection(write=True) as connection:
            return connection.execute(statement.values(**values)).rowcount == 1


_rated = _users.approved + _users.disapproved + _users.corrected
_answered = _users.asked - _users.searched - _users.failed


def _is(condition: ColumnElement[bool], value: ColumnElement[Any] | int = 1) -> ColumnElement[Any]:
    return func.sum(case((condition, value), else_=0))


_SUMS = (
    _is(_users.asked > 0),
    _is(_users.asked > 0, cast(_users.failed, Double) / _users.asked),
    _is(_rated > 0),
    _is(_rated > 0, cast(_users.disapproved + _users.corrected, Double) / _rated),
    _is(_answered > 0),
    _is(_answered > 0, cast(_users.declined, Double) / _answered),
    _is(_answered > 0, cast(_users.asked_back, Double) / _answered),
)


def _step(mean: ColumnElement[int]) -> ColumnElement[int]:
    """Returns ``schemas.guardrails.step_of`` of a user's mean, found by halving; -1 for who got no answer."""

    def find(first: int, last: int) -> ColumnElement[int]:
        if first == last:
            return literal(first, literal_execute=True)
        middle = (first + last) // 2
        return case((mean < math.ceil(STEPS[middle]), find(first, middle)), else_=find(middle + 1, last))

    return case((_answered > 0, find(0, len(STEPS))), else_=literal(-1, literal_execute=True))


def _users_of(steps: Iterable[tuple[int, int]]) -> dict[int, int]:
    found: Counter[int] = Counter()
    for step, users in steps:
        found[step] += int(users)
    return {step: users for step, users in sorted(found.items()) if step >= 0}
