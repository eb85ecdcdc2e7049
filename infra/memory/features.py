"""The in-memory twin of ``infra.sql.features``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

from infra.memory.database import MemoryDatabase, in_utc
from schemas.features import Example, Feedback, Interaction, Stamp, TaskWindow


class MemoryFeatureTable:
    """One row a question, and the labelled examples."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def transaction(self) -> object:
        """Returns an object that stands for the open transaction: the same until it ends, another one afterwards."""
        return self._database.current or object()

    def interactions(self, answer_ids: Sequence[str]) -> dict[str, Interaction]:
        """The rows that exist, locked until the transaction ends."""
        with self._database.table("interactions") as rows:
            return {answer_id: rows[answer_id] for answer_id in answer_ids if answer_id in rows}

    def feedback(self, answer_ids: Sequence[str]) -> dict[str, list[Feedback]]:
        """The words of all raters on these answers, for those that have any."""
        found: dict[str, list[Feedback]] = {}
        with self._database.table("feedback") as words:
            for key in sorted(words):
                if key[0] in answer_ids:
                    found.setdefault(key[0], []).append(words[key])
        return found

    def put_interaction(self, row: Interaction) -> None:
        """Writes the whole row."""
        kept = replace(row, **{each.name: _kept(getattr(row, each.name)) for each in fields(row)})
        with self._database.table("interactions") as rows:
            rows[row.answer_id] = kept
        self._arrived("interaction", row.answer_id)

    def put_feedback(self, word: Feedback) -> None:
        """Writes a rater's word, in place of an earlier one."""
        kept = replace(word, **{each.name: _kept(getattr(word, each.name)) for each in fields(word)})
        with self._database.table("feedback") as words:
            words[word.answer_id, word.source, word.rater] = kept

    def put_example(self, row: Example) -> None:
        """Writes an example; a second write of the same one changes nothing."""
        with self._database.table("examples") as rows:
            if row.example_id in rows:
                return
            rows[row.example_id] = replace(row, submitted_at=in_utc(row.submitted_at))
        self._arrived("example", row.example_id)

    def get(self, answer_id: str) -> Interaction | None:
        """One row."""
        with self._database.table("interactions") as rows:
            return rows.get(answer_id)

    def recent(self, task: str | None, limit: int) -> list[Interaction]:
        """Returns the rows of a task, or of all tasks, that changed last, newest first."""
        with self._database.table("interactions") as rows:
            found = [row for row in rows.values() if row.last_event_at is not None and task in (None, row.task)]
        found.sort(key=lambda row: row.answer_id)
        return sorted(found, key=lambda row: row.last_event_at, reverse=True)[:limit]

    def rated(self, task: str, limit: int, *, since: datetime | None = None) -> list[Interaction]:
        """Returns a task's approved and corrected answers that were recorded last, newest first.

        ``since``: only rows that were written then or later. Times of events do not matter.
        """
        with self._database.table("interactions") as rows:
            found = [row for row in rows.values() if row.task == task and row.outcome in ("approved", "corrected")]
        arrived = {row.answer_id: row for row in found}
        return [arrived[name] for name in self._newest("interaction", sorted(arrived), since)[:limit]]

    def prune(self, before: datetime, keep: Sequence[TaskWindow] = ()) -> int:
        """Deletes rows to which nothing happened since then; those in the windows ``keep`` stay. Returns how many."""
        windows = [(each.task, in_utc(each.start), in_utc(each.end)) for each in keep]

        def is_kept(row: Interaction) -> bool:
            at = row.answered_at
            return at is not None and any(row.task == task and start <= at <= end for task, start, end in windows)

        return self._delete(lambda row: _is_before(row.last_event_at, before) and not is_kept(row))

    def prune_pending(self, before: datetime) -> int:
        """Deletes feedback whose answer has not come, where the last one is older; returns how many rows."""
        return self._delete(lambda row: row.answer_stamp is None and _is_before(row.last_event_at, before))

    def _delete(self, chosen: Callable[[Interaction], bool]) -> int:
        with self._database.table("interactions") as rows, self._database.table("feedback") as words:
            gone = {row.answer_id for row in rows.values() if chosen(row)}
            for answer_id in gone:
                del rows[answer_id]
            for key in [key for key in words if key[0] in gone]:
                del words[key]
        return len(gone)

    def examples(self, task: str, limit: int, *, since: datetime | None = None, golden: bool = False) -> list[Example]:
        """Returns the examples of a task that were recorded last, newest first.

        ``since``: only those written then or later. ``golden``: those of the golden set, or all others.
        """
        with self._database.table("examples") as rows:
            found = {row.example_id: row for row in rows.values() if row.task == task and row.golden == golden}
        return [found[name] for name in self._newest("example", sorted(found), since)[:limit]]

    def _arrived(self, kind: str, name: str) -> None:
        with self._database.table("arrivals") as arrivals:
            arrivals[kind, name] = datetime.now(UTC)

    def _newest(self, kind: str, names: Sequence[str], since: datetime | None) -> list[str]:
        """Returns the names by the time when they were written, newest first."""
        with self._database.table("arrivals") as arrivals:
            times = {name: arrivals[kind, name] for name in names}
        return sorted(
            (name for name in names if since is None or times[name] >= since), key=times.__getitem__, reverse=True
        )


def _is_before(at: datetime | None, before: datetime) -> bool:
    return at is not None and at < before


def _kept(value: Any) -> Any:  # a value of any field
    if isinstance(value, datetime):
        return in_utc(value)
    return replace(value, time=in_utc(value.time)) if isinstance(value, Stamp) else value
