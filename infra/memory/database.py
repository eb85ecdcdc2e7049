"""The in-memory twin of ``infra.sql.database``: transactions over dictionaries."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any


class MemoryDatabase:
    """Tables of rows by key, with one transaction at a time.

    Rows are frozen values, so a copy of the tables' dictionaries is enough for a rollback. As in SQL, a transaction
    ends with the failure that happened inside it, even when a caller has caught it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._tables: dict[str, dict[Any, Any]] = {}
        self._opened: _Opened | None = None

    @property
    def current(self) -> object | None:
        """An object that stands for this thread's open transaction, or None."""
        opened = self._opened
        return opened if opened is not None and opened.thread == threading.get_ident() else None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits at the end and rolls back on an exception. Joins a transaction that is open already."""
        with self._lock:
            if self._opened is None:
                with self._begin():
                    yield
                return
            try:
                yield
            except BaseException as error:
                self._opened.failure = self._opened.failure or error
                raise

    @contextmanager
    def table(self, name: str) -> Iterator[dict[Any, Any]]:
        """Yields a table to read and write, in the open transaction or one of its own."""
        with self.transaction():
            yield self._tables.setdefault(name, {})

    @contextmanager
    def _begin(self) -> Iterator[None]:
        before = {name: dict(table) for name, table in self._tables.items()}
        self._opened = opened = _Opened()
        try:
            yield
            if opened.failure is not None:
                raise opened.failure
        except BaseException:
            self._tables = before
            raise
        finally:
            self._opened = None


class _Opened:
    """An open transaction, its thread, and the first failure inside it."""

    def __init__(self) -> None:
        self.thread = threading.get_ident()
        self.failure: BaseException | None = None


def in_utc(moment: datetime) -> datetime:
    """Returns the time as SQL would return it. Refuses one without a time zone, as SQL's columns do."""
    if moment.tzinfo is None:
        raise ValueError(f"the time {moment.isoformat()} names no time zone: give it one")
    return moment.astimezone(UTC)
