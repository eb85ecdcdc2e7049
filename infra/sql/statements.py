"""Statements that work on SQLite and PostgreSQL alike: upserts, IN lists of keys, and deletes in portions."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Table, delete, false, or_, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from infra.sql.database import Database

Insert = postgresql.Insert | sqlite.Insert
T = TypeVar("T")

MOST_PARAMETERS = 500
"""Most values in one IN clause, far below the limit of either database."""
ROWS_PER_DELETE = 2000
"""Rows of one portion: few enough that other writers do not wait long for SQLite's write lock."""
ROWS_PER_PRUNE = 10_000
"""Rows that one call of ``prune`` deletes. The next call goes on."""
PAUSE_SECONDS = 0.05
"""Between two portions, so that writers that wait for SQLite's lock get it: it is not given in the order of asking."""


def insert(dialect: str, table: Table) -> Insert:
    """Returns an insert that supports ON CONFLICT."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


@cache
def upsert(dialect: str, table: Table) -> Insert:
    """Returns a statement that writes a whole row, or overwrites the one with the same primary key."""
    statement = insert(dialect, table)
    key = [column.name for column in table.primary_key]
    changed = {name: statement.excluded[name] for name in table.columns.keys() if name not in key}  # noqa: SIM118
    return statement.on_conflict_do_update(index_elements=key, set_=changed)


@cache
def insert_once(dialect: str, table: Table) -> Insert:
    """Returns a statement that writes a row unless one with the same primary key exists."""
    return insert(dialect, table).on_conflict_do_nothing(index_elements=[column.name for column in table.primary_key])


def among(columns: Sequence[Column[Any]], keys: Sequence[tuple[str, ...]]) -> ColumnElement[bool]:
    """Returns the condition that a row's key is one of these. ``columns`` are the first ones of the primary key.

    Keys have at least two parts. A plain list of row values would be simpler, but SQLite scans the table for it.
    """
    groups: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for key in keys:
        groups[key[0]].append(key)
    first, second, *others = columns
    terms = []
    for value, some in groups.items():
        term = (first == value) & second.in_(sorted({key[1] for key in some}))
        terms.append(term & tuple_(*columns).in_(some) if others else term)
    return or_(false(), *terms)


def slices(values: Sequence[T], size: int = MOST_PARAMETERS) -> Iterator[Sequence[T]]:
    """Yields the values in portions of at most ``size``."""
    for start in range(0, len(values), size):
        yield values[start : start + size]


def prune(database: Database, table: Table, *old: ColumnElement[bool], most: int = ROWS_PER_PRUNE) -> int:
    """Deletes rows that meet all conditions, about ``most``, a portion in each transaction. Returns how many."""
    key = tuple(table.primary_key.columns)
    some = select(*key).where(*old).limit(ROWS_PER_DELETE)
    # Looks without a lock first, because there is seldom anything to delete.
    with database.connection() as connection:
        if connection.execute(some.limit(1)).first() is None:
            return 0
    gone = delete(table).where(tuple_(*key).in_(some))
    if database.dialect == "postgresql":
        gone = gone.where(*old)  # it checks only these again for a row that was changed in the meantime
    pruned = 0
    while True:
        with database.connection(write=True) as connection:
            count = connection.execute(gone).rowcount
        pruned += count
        if count < ROWS_PER_DELETE or pruned >= most:
            return pruned
        time.sleep(PAUSE_SECONDS)
