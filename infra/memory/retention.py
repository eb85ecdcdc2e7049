"""The in-memory twin of ``infra.sql.retention``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from infra.memory.database import MemoryDatabase, in_utc
from schemas.datasets import DatasetRow


class MemoryRetention:
    """Held-out rows by task. A row never changes once it was added."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, task: str, rows: Sequence[DatasetRow], dataset_id: str, at: datetime) -> None:
        """Inside a transaction: adds rows; a row that exists does not change."""
        in_utc(at)
        with self._database.table("retention_rows") as kept:
            for row in rows:
                kept.setdefault((task, row.row_id), row)

    def rows(self, task: str, limit: int) -> list[DatasetRow]:
        """Returns at most ``limit`` rows of a task: those with the lowest sampling keys, a fair sample of all rows."""
        with self._database.table("retention_rows") as kept:
            found = [row for (of, _), row in kept.items() if of == task]
        return sorted(found, key=lambda row: row.sampling_key)[:limit]
