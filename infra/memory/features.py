"""The in-memory twin of ``infra.sql.features``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from infra.memory.database import MemoryDatabase, in_utc
from schemas.features import Example, Interaction, Stamp


class MemoryFeatureTable:
    """One row a question, and the labelled examples."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def transaction(self) -> object:
        """The transaction that is open here and now: the same object until it ends, another one afterwards."""
        return self._database.current or object()

    def interactions(self, answer_ids: Sequence[str]) -> dict[str, Interaction]:
        """The rows that exist, locked until the transaction ends."""
        with self._database.table("interactions") as rows:
            return {answer_id: rows[answer_id] for answer_id in answer_ids if answer_id in rows}

    def put_interaction(self, row: Interaction) -> None:
        """Writes the whole row."""
        kept = replace(row, **{each.name: _kept(getattr(row, each.name)) for each in fields(row)})
        with self._database.table("interactions") as rows:
            rows[row.answer_id] = kept

    def put_example(self, row: Example) -> None:
        """Writing an example twice is writing it once."""
        with self._database.table("examples") as rows:
            rows.setdefault(row.example_id, replace(row, submitted_at=in_utc(row.submitted_at)))

    def get(self, answer_id: str) -> Interaction | None:
        """One row."""
        with self._database.table("interactions") as rows:
            return rows.get(answer_id)

    def recent(self, task: str | None, limit: int) -> list[Interaction]:
        """The rows of a task, or of all, in which something happened last, newest first."""
        with self._database.table("interactions") as rows:
            found = [row for row in rows.values() if row.last_event_at is not None and task in (None, row.task)]
        found.sort(key=lambda row: row.answer_id)
        return sorted(found, key=lambda row: row.last_event_at, reverse=True)[:limit]

    def rated(self, task: str, limit: int, *, until: datetime | None = None) -> list[Interaction]:
        """A task's approved and corrected answers, in which something happened last, newest first.

        ``until``: only those in which nothing happened after.
        """
        rows = self.recent(task, self.count())
        if until is not None:
            rows = [row for row in rows if row.last_event_at is not None and row.last_event_at <= until]
        return [row for row in rows if row.outcome in ("approved", "corrected")][:limit]

    def count(self) -> int:
        """How many rows there are."""
        with self._database.table("interactions") as rows:
            return len(rows)

    def examples(self, task: str | None, limit: int, *, until: datetime | None = None) -> list[Example]:
        """The examples of a task, or of all, newest first; only those that were submitted until then."""
        with self._database.table("examples") as rows:
            found = [row for row in rows.values() if task in (None, row.task)]
        found = [row for row in found if until is None or row.submitted_at <= until]
        found.sort(key=lambda row: row.example_id)
        return sorted(found, key=lambda row: row.submitted_at, reverse=True)[:limit]


def _kept(value: Any) -> Any:
    if isinstance(value, datetime):
        return in_utc(value)
    return replace(value, time=in_utc(value.time)) if isinstance(value, Stamp) else value
