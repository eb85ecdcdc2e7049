"""Measures the tables: their rows, their bytes with their indexes, and how many rows are older than a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, inspect, or_, select, text
from sqlalchemy.exc import OperationalError

from infra.sql import tables
from infra.sql.database import Database

_PAGES = """
SELECT coalesce(master.tbl_name, pages.name), sum(pages.pgsize)
FROM (SELECT name, pgsize FROM dbstat WHERE aggregate = 1) AS pages
LEFT JOIN sqlite_master AS master ON master.name = pages.name
GROUP BY 1
"""
_RELATIONS = """
SELECT relname, pg_total_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace
"""


@dataclass(frozen=True, kw_only=True)
class TableSize:
    """A table's rows, and its bytes with its indexes; None where the database does not say."""

    rows: int
    bytes: int | None


class SqlSizes:
    """The sizes of a database's tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def tables(self) -> dict[str, TableSize]:
        """Returns every table's size. It reads the whole database once, which takes seconds a gigabyte."""
        with self._database.connection() as connection:
            present = set(inspect(connection).get_table_names())
        found = {}
        taken = self._bytes()
        for table in tables.METADATA.sorted_tables:
            if table.name in present:
                with self._database.connection() as connection:
                    rows = connection.execute(select(func.count()).select_from(table)).scalar_one()
                found[table.name] = TableSize(rows=rows, bytes=taken.get(table.name))
        return found

    def older(self, column: str, before: datetime) -> int:
        """Counts a table's rows by the time in a column, such as ``journal.at``."""
        table, _, name = column.partition(".")
        old = tables.METADATA.tables[table].c[name] < before
        with self._database.connection() as connection:
            return connection.execute(select(func.count()).where(old)).scalar_one()

    def old_interactions(self, before: datetime, *, pending_before: datetime) -> int:
        """Counts rows of the feature table: those that are old, and pending feedback that is old."""
        rows = tables.interactions.c
        pending = and_(rows.answer_at.is_(None), rows.last_event_at < pending_before)
        with self._database.connection() as connection:
            return connection.execute(
                select(func.count()).where(or_(rows.last_event_at < before, pending))
            ).scalar_one()

    def _bytes(self) -> dict[str, int]:
        statement = text(_PAGES if self._database.dialect == "sqlite" else _RELATIONS)
        with self._database.connection() as connection:
            return _sizes(connection, statement.text)


def _sizes(connection: Connection, statement: str) -> dict[str, int]:
    try:
        return {name: int(size) for name, size in connection.exec_driver_sql(statement)}
    except OperationalError as error:
        if "dbstat" in str(error):  # a SQLite that was built without it
            return {}
        raise
