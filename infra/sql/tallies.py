"""Keeps the tallies of the feature table, so that nobody has to count its rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b

from sqlalchemy import Table

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import Insert, insert
from infra.sql.tables import GUARDED, RATED, TALLIED
from schemas.features import Interaction
from schemas.guardrails import guarded

SLOTS = 8
"""Slots of a release and arm. Two recorders that commit at once write into the same one once in so many times."""

Key = tuple[str | int, ...]
Tally = Counter[str]


class TallyChanges:
    """How the rows that a transaction writes change the tallies: added up, and written once.

    A change is the difference between a row and the one that it replaces, which the transaction has locked. So repeated
    and late facts, in whatever order, leave the tallies equal to a count of the rows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._arms: dict[Key, Tally] = defaultdict(Counter)
        self._users: dict[Key, Tally] = defaultdict(Counter)
        self._last_id = ""  # chooses the slot, so that transactions spread over all slots

    def replace(self, before: Interaction | None, row: Interaction) -> None:
        """Notes that a row is written in place of another one, or as a new one."""
        if before is not None:
            self._add(before, -1)
        self._add(row, 1)
        self._last_id = max(self._last_id, row.answer_id)

    def write(self) -> None:
        """Changes the tallies, always in the same order, so that no two transactions block each other."""
        slot = blake2b(self._last_id.encode(), digest_size=8).digest()[0] % SLOTS
        self._upsert(tables.arm_tallies, {(*key, slot): tally for key, tally in self._arms.items()})
        self._upsert(tables.user_tallies, self._users)

    def _add(self, row: Interaction, sign: int) -> None:
        if row.task is None or row.arm is None or row.release_sequence is None or row.answered_at is None:
            return
        counted = ["asked"]
        if row.finish_reason == "retrieve_only":
            counted.append("searched")
        if row.outcome in TALLIED:
            counted.append(row.outcome)
        change = dict.fromkeys(counted, sign)
        self._arms[row.task, row.arm, row.release_sequence, row.adapter_id or ""].update(change)
        if row.outcome in RATED:
            self._users[row.task, row.release_sequence, row.arm, row.rater][counted.pop()] += sign
        change = {**dict.fromkeys(counted, 1), **guarded(row)}
        self._users[row.task, row.release_sequence, row.arm, row.asker].update(
            {name: sign * number for name, number in change.items()}
        )

    def _upsert(self, table: Table, changes: Mapping[Key, Tally]) -> None:
        names = [column.name for column in table.primary_key]
        rows = [
            {**dict(zip(names, key, strict=True)), **{name: changes[key][name] for name in _summed(table)}}
            for key in sorted(changes)
            if any(changes[key].values())
        ]
        if rows:
            with self._database.connection(write=True) as connection:
                connection.execute(_added(self._database.dialect, table), rows)


def _summed(table: Table) -> tuple[str, ...]:
    return TALLIED if table is tables.arm_tallies else (*TALLIED, *GUARDED)


@cache
def _added(dialect: str, table: Table) -> Insert:
    """Returns a statement that adds numbers to a tally, or writes them as a new one."""
    statement = insert(dialect, table)
    sums = {name: table.c[name] + statement.excluded[name] for name in _summed(table)}
    return statement.on_conflict_do_update(index_elements=[column.name for column in table.primary_key], set_=sums)
