"""Keeps the tallies of the feature table, so that nobody has to count its rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import blake2b

from sqlalchemy import Table

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import Insert, insert
from infra.sql.tables import TALLIED
from schemas.features import Interaction

SLOTS = 8
"""Slots of a release and arm. Two recorders that commit at once write into the same one once in so many times."""

Key = tuple[str | int, ...]
Tally = Counter[str]


class TallyChanges:
    """How the rows that a transaction writes change the tallies: added up, and written once, before the commit.

    A difference is always computed from the row that is replaced, which the transaction has locked. So redelivered,
    repeated and late facts leave the tallies equal to a count of the rows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, Interaction | None] = {}
        self._arms: dict[Key, Tally] = defaultdict(Counter)
        self._users: dict[Key, Tally] = defaultdict(Counter)

    def knows(self, answer_id: str) -> bool:
        """Tells whether the transaction has read or written this row."""
        return answer_id in self._rows

    def read(self, answer_ids: Iterable[str], found: Mapping[str, Interaction]) -> None:
        """Notes rows that the transaction has read and locked, and those that do not exist."""
        self._rows.update((answer_id, found.get(answer_id)) for answer_id in answer_ids)

    def replace(self, row: Interaction) -> None:
        """Notes that a row was written in place of the one that is known."""
        before = self._rows[row.answer_id]
        if before is not None:
            self._add(before, -1)
        self._add(row, 1)
        self._rows[row.answer_id] = row

    def write(self) -> None:
        """Changes the tallies, always in the same order, so that no two transactions block each other."""
        # Transactions spread over the slots by their rows.
        first = min(self._rows, default="").encode()
        slot = blake2b(first, digest_size=8).digest()[0] % SLOTS
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
        self._users[row.task, row.release_sequence, row.arm, row.rater].update(change)

    def _upsert(self, table: Table, changes: Mapping[Key, Tally]) -> None:
        names = [column.name for column in table.primary_key]
        rows = [
            {**dict(zip(names, key, strict=True)), **{name: changes[key][name] for name in TALLIED}}
            for key in sorted(changes)
            if any(changes[key].values())
        ]
        if rows:
            with self._database.connection(write=True) as connection:
                connection.execute(_added(self._database.dialect, table), rows)


@cache
def _added(dialect: str, table: Table) -> Insert:
    """Returns a statement that adds numbers to a tally, or writes them as a new one."""
    statement = insert(dialect, table)
    sums = {name: table.c[name] + statement.excluded[name] for name in TALLIED}
    return statement.on_conflict_do_update(index_elements=[column.name for column in table.primary_key], set_=sums)
