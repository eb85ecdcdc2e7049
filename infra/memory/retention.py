"""The in-memory twin of ``infra.sql.retention``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from infra.memory.database import MemoryDatabase, in_utc
from schemas.datasets import DatasetRow


class MemoryRetention:
    """Held-out rows by task; a row stays as it was when it came."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def add(self, task: str, rows: Sequence[DatasetRow], dataset_id: str, at: datetime) -> None:
        """Inside a transaction. Adding a row twice is adding it once."""
        in_utc(at)
        with self._database.table("retention_rows") as kept:
            for row in rows:
                kept.setdefault((task, row.row_id), row)

    def rows(self, task: str, limit: int) -> list[DatasetRow]:
        """At most so many rows of a task, those with the least lots, so that every earlier adapter has its part."""
        with self._database.table("retention_rows") as kept:
            found = [row for (of, _), row in kept.items() if of == task]
        return sorted(found, key=lambda row: row.sampling_key)[:limit]
