"""The retention suite in SQL: rows that earlier adapters were validated on, which later ones must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once
from schemas.datasets import DATASET_ROW, DatasetRow

_rows = tables.retention_rows.c


class SqlRetention:
    """Held-out rows by task. A row never changes once it was added."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, task: str, rows: Sequence[DatasetRow], dataset_id: str, at: datetime) -> None:
        """Inside a transaction: adds rows; a row that exists does not change."""
        if not rows:
            return
        values = [
            {
                "task": task,
                "row_id": row.row_id,
                "dataset_id": dataset_id,
                "added_at": at,
                "row": DATASET_ROW.dump_python(row, mode="json"),
                "sampling_key": row.sampling_key,
            }
            for row in sorted(rows, key=lambda row: row.row_id)
        ]
        with self._database.connection(write=True) as connection:
            connection.execute(insert_once(self._database.dialect, tables.retention_rows), values)

    def rows(self, task: str, limit: int) -> list[DatasetRow]:
        """Returns at most ``limit`` rows of a task: those with the lowest sampling keys, a fair sample of all rows."""
        sample = select(_rows.row).where(_rows.task == task).order_by(_rows.sampling_key).limit(limit)
        with self._database.connection() as connection:
            return [DATASET_ROW.validate_python(values) for values in connection.execute(sample).scalars()]
