"""Deletes what has become old, a portion a transaction."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, delete, select, tuple_

from infra.sql.database import Database

TOGETHER = 2000
"""Few enough that nobody waits long for SQLite's write lock."""


def prune(database: Database, table: Table, *old: ColumnElement[bool]) -> int:
    """Deletes the rows that all of these hold for; how many there were."""
    key = tuple(table.primary_key.columns)
    some = select(*key).where(*old).limit(TOGETHER)
    pruned = 0
    while True:
        with database.connection(write=True) as connection:
            count = connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount
        pruned += count
        if count < TOGETHER:
            return pruned
