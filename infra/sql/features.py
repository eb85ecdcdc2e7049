"""The feature table in SQL: one row a question, in typed columns, the raters' words, and the labelled examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, false, func, or_, select

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once, prune, slices, upsert
from infra.sql.tallies import TallyChanges
from schemas.features import Example, Feedback, Interaction, Stamp, TaskWindow
from schemas.questions import Turn

_interactions = tables.interactions.c
_feedback = tables.feedback.c
_examples = tables.examples.c
_RENAMED = {"user": "user_id", "session": "session_id"}
_LISTS = ("sources", "history")


def _plain(kind: type[Interaction | Feedback]) -> tuple[str, ...]:
    """Returns the fields that are one column each."""
    return tuple(each.name for each in fields(kind) if each.name not in _LISTS and not each.name.endswith("_stamp"))


def _stamps(kind: type[Interaction | Feedback]) -> tuple[str, ...]:
    """Returns the names of the stamps, which are two columns each."""
    return tuple(each.name.removesuffix("_stamp") for each in fields(kind) if each.name.endswith("_stamp"))


_PLAIN, _STAMPS = _plain(Interaction), _stamps(Interaction)
_PLAIN_OF_WORDS, _STAMPS_OF_WORDS = _plain(Feedback), _stamps(Feedback)


class SqlFeatureTable:
    """One row a question, and the labelled examples."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def transaction(self) -> object:
        """Returns an object that stands for the open transaction: the same until it ends, another one afterwards."""
        return self._database.current or object()

    def interactions(self, answer_ids: Sequence[str]) -> dict[str, Interaction]:
        """Returns the rows that exist. Locks these and the missing ones until the transaction ends."""
        if self._database.current is None:
            with self._database.connection() as connection:
                return _read(connection, answer_ids)
        changes = self._database.last_write(RowChanges)
        changes.lock(answer_ids)
        return changes.rows(answer_ids)

    def put_interaction(self, row: Interaction) -> None:
        """Writes the whole row, and changes the tallies, before the transaction commits."""
        with self._database.transaction():
            changes = self._database.last_write(RowChanges)
            changes.lock([row.answer_id])
            changes.put(row)

    def feedback(self, answer_ids: Sequence[str]) -> dict[str, list[Feedback]]:
        """Returns the words of all raters on these answers, for those that have any."""
        found: dict[str, list[Feedback]] = {}
        with self._connection() as connection:
            for some in slices(answer_ids):
                words = select(tables.feedback).where(_feedback.answer_id.in_(some))
                words = words.order_by(_feedback.answer_id, _feedback.source, _feedback.rater)
                for row in connection.execute(words).mappings():
                    found.setdefault(row["answer_id"], []).append(_word_of(row))
        return found

    def put_feedback(self, word: Feedback) -> None:
        """Inside a transaction: writes a rater's word, in place of an earlier one, before it commits."""
        self._database.last_write(RowChanges).put_feedback(word)

    def put_example(self, row: Example) -> None:
        """Writes an example; a second write of the same one changes nothing."""
        with self._database.connection(write=True) as connection:
            values = {**vars(row), "recorded_at": datetime.now(UTC)}
            connection.execute(insert_once(self._database.dialect, tables.examples), values)

    def get(self, answer_id: str) -> Interaction | None:
        """Returns one row, without a lock."""
        statement = select(tables.interactions).where(_interactions.answer_id == answer_id)
        with self._connection() as connection:
            row = connection.execute(statement).mappings().first()
        return None if row is None else interaction_of(row)

    def recent(self, task: str | None, limit: int) -> list[Interaction]:
        """Returns the rows of a task, or of all tasks, that changed last, newest first."""
        # SQLite and PostgreSQL sort NULL differently, and every row that is written has an event.
        newest = select(tables.interactions).where(_interactions.last_event_at.is_not(None))
        newest = newest.order_by(_interactions.last_event_at.desc(), _interactions.answer_id)
        if task is not None:
            newest = newest.where(_interactions.task == task)
        with self._connection() as connection:
            return [interaction_of(row) for row in connection.execute(newest.limit(limit)).mappings()]

    def rated(self, task: str, limit: int, *, since: datetime | None = None) -> list[Interaction]:
        """Returns a task's approved and corrected answers that were recorded last, newest first.

        ``since``: only rows that were written then or later, by the recorder's clock. Times of events do not matter.
        """
        wanted = select(tables.interactions).where(_interactions.task == task, tables.IS_LABELLED)
        if since is not None:
            wanted = wanted.where(_interactions.recorded_at >= since)
        wanted = wanted.order_by(_interactions.recorded_at.desc(), _interactions.answer_id).limit(limit)
        with self._connection() as connection:
            return [interaction_of(row) for row in connection.execute(wanted).mappings()]

    def prune(self, before: datetime, keep: Sequence[TaskWindow] = ()) -> int:
        """Deletes rows to which nothing happened since then, a bounded number; returns how many.

        ``keep``: rows of these tasks that were answered in these times stay.
        """
        kept = [
            and_(_interactions.task == each.task, _interactions.answered_at.between(each.start, each.end))
            for each in keep
        ]
        old = _interactions.last_event_at < before
        # A row without a task or an answer is in no window: its comparison gives NULL, which is not false.
        others = [func.coalesce(or_(*kept), false()).is_(false())] if kept else []
        return prune(self._database, tables.interactions, old, *others)

    def prune_pending(self, before: datetime) -> int:
        """Deletes feedback whose answer has not come, where the last one is older; returns how many rows."""
        pending = _interactions.answer_at.is_(None)
        return prune(self._database, tables.interactions, pending, _interactions.last_event_at < before)

    def examples(self, task: str, limit: int, *, since: datetime | None = None, golden: bool = False) -> list[Example]:
        """Returns the examples of a task that were recorded last, newest first.

        ``since``: only those written then or later. ``golden``: those of the golden set, or all others.
        """
        newest = select(tables.examples).where(_examples.task == task, _examples.golden.is_(golden))
        newest = newest.order_by(_examples.recorded_at.desc(), _examples.example_id)
        if since is not None:
            newest = newest.where(_examples.recorded_at >= since)
        with self._database.connection() as connection:
            return [_example_of(row) for row in connection.execute(newest.limit(limit)).mappings()]

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """Yields a connection that sees the rows that the open transaction has put."""
        if self._database.current is not None:
            self._database.last_write(RowChanges).flush()
        with self._database.connection() as connection:
            yield connection


class RowChanges:
    """The rows that a transaction has locked, and those that it puts: all are written at once, with their tallies."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stored: dict[str, Interaction | None] = {}
        self._put: dict[str, Interaction] = {}
        self._words: dict[tuple[str, str, str], Feedback] = {}
        self._tallies = TallyChanges(database)

    def lock(self, answer_ids: Sequence[str]) -> None:
        """Locks and reads rows that are not locked yet, also those that do not exist."""
        new = [answer_id for answer_id in answer_ids if answer_id not in self._stored]
        if not new:
            return
        with self._database.connection() as connection:
            self._database.lock(connection, (f"interaction {answer_id}" for answer_id in new))
            found = _read(connection, new)
        self._stored.update((answer_id, found.get(answer_id)) for answer_id in new)

    def rows(self, answer_ids: Sequence[str]) -> dict[str, Interaction]:
        """Returns those of the locked rows that exist."""
        found = ((answer_id, self._put.get(answer_id) or self._stored[answer_id]) for answer_id in answer_ids)
        return {answer_id: row for answer_id, row in found if row is not None}

    def put(self, row: Interaction) -> None:
        """Puts a row in place of a locked one."""
        self._put[row.answer_id] = row

    def put_feedback(self, word: Feedback) -> None:
        """Puts a rater's word on a locked row."""
        self._words[word.answer_id, word.source, word.rater] = word

    def flush(self) -> None:
        """Writes the rows and the words that were put. A word refers to its row."""
        rows = [self._put[answer_id] for answer_id in sorted(self._put)]
        words = [_word_values(self._words[key]) for key in sorted(self._words)]
        with self._database.connection(write=True) as connection:
            if rows:
                connection.execute(upsert(self._database.dialect, tables.interactions), [_values(row) for row in rows])
            if words:
                connection.execute(upsert(self._database.dialect, tables.feedback), words)
        self._words.clear()
        for row in rows:
            self._tallies.replace(self._stored[row.answer_id], row)
        self._stored.update(self._put)
        self._put.clear()

    def write(self) -> None:
        """Writes all that is left, before the commit."""
        self.flush()
        self._tallies.write()


def _read(connection: Connection, answer_ids: Sequence[str]) -> dict[str, Interaction]:
    found: dict[str, Interaction] = {}
    for some in slices(answer_ids):
        rows = connection.execute(select(tables.interactions).where(_interactions.answer_id.in_(some)))
        found.update((row["answer_id"], interaction_of(row)) for row in rows.mappings())
    return found


def _values(row: Interaction) -> dict[str, Any]:
    values: dict[str, Any] = {_RENAMED.get(name, name): getattr(row, name) for name in _PLAIN}
    # Most questions follow up on none, and rows from before the column have none either.
    history = [turn.model_dump() for turn in row.history] or None
    lists = {"sources": list(row.sources), "history": history}
    return {**values, **_stamp_values(row, _STAMPS), **lists, "recorded_at": datetime.now(UTC)}


def _word_values(word: Feedback) -> dict[str, Any]:
    return {**{name: getattr(word, name) for name in _PLAIN_OF_WORDS}, **_stamp_values(word, _STAMPS_OF_WORDS)}


def _stamp_values(row: Interaction | Feedback, names: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in names:
        stamp: Stamp | None = getattr(row, f"{name}_stamp")
        values[f"{name}_at"] = stamp.time if stamp else None
        values[f"{name}_event"] = stamp.event if stamp else None
    return values


def interaction_of(row: RowMapping) -> Interaction:
    """Makes an ``Interaction`` of a row with all columns of the table."""
    values: dict[str, Any] = {name: row[_RENAMED.get(name, name)] for name in _PLAIN}
    history = tuple(Turn(**turn) for turn in row["history"] or ())
    return Interaction(**values, **_stamps_of(row, _STAMPS), sources=tuple(row["sources"]), history=history)


def _word_of(row: RowMapping) -> Feedback:
    return Feedback(**{name: row[name] for name in _PLAIN_OF_WORDS}, **_stamps_of(row, _STAMPS_OF_WORDS))


def _stamps_of(row: RowMapping, names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        time: datetime | None = row[f"{name}_at"]
        found[f"{name}_stamp"] = Stamp(time=time, event=row[f"{name}_event"]) if time is not None else None
    return found


def _example_of(row: RowMapping) -> Example:
    return Example(**{each.name: row[each.name] for each in fields(Example)})
