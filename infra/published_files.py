"""Remembers which files of a folder were published, and their size, time and hash, in SQLite in the home folder.

The command line alone uses it, so it does not belong to the configured database. It is a table and not a JSON file
because a folder of many files is stored batch by batch, as Kafka confirms it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.private_files import create_file, create_folder
from schemas.errors import Unavailable

FILE_NAME = "published.db"
BUSY_SECONDS = 30.0
_TABLE = """
CREATE TABLE IF NOT EXISTS published_files (
    cluster TEXT NOT NULL, tenant TEXT NOT NULL, folder BLOB NOT NULL, path TEXT NOT NULL,
    mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL, options TEXT NOT NULL,
    published_at TEXT NOT NULL, submitted_at TEXT,
    PRIMARY KEY (cluster, tenant, folder, path)
) WITHOUT ROWID
"""
_WHERE = "WHERE cluster = ? AND tenant = ? AND folder = ?"


@dataclass(frozen=True)
class FileState:
    """The state of a file when it was published, and the options of that publication.

    ``mtime_ns`` is None where the file had just been written: it may have changed again in the same tick of the clock.
    """

    mtime_ns: int | None
    size: int
    sha256: str
    options: str
    submitted_at: datetime | None = field(default=None, compare=False)
    """The time in its event; None where an earlier version published it."""
    published_at: datetime | None = field(default=None, compare=False)
    """When Kafka confirmed it. ``remember`` sets it."""


@dataclass(frozen=True)
class PublishedFiles:
    """The published files of one folder, for one tenant of one Kafka. ``path``: the database, created when needed.

    Every method raises Unavailable when the database cannot be used.
    """

    path: Path
    cluster: str
    tenant: str
    folder: Path

    def load(self) -> dict[str, FileState]:
        """Returns each published file's state by document id. Does not create the database."""
        columns = "path, mtime_ns, size, sha256, options, submitted_at, published_at"
        return {
            name: FileState(
                None if mtime_ns < 0 else mtime_ns, size, sha256, options, _moment(submitted_at), _moment(published_at)
            )
            for name, mtime_ns, size, sha256, options, submitted_at, published_at in self._select(columns)
        }

    def elsewhere(self) -> dict[str, Path]:
        """Returns by document id the other folder that published it, where that folder still exists."""
        if not self.path.exists():
            return {}
        with self._open() as database:
            where = "WHERE cluster = ? AND tenant = ? AND folder <> ?"
            rows = database.execute(f"SELECT path, folder FROM published_files {where}", self._scope).fetchall()
        folders = {each: Path(os.fsdecode(each)) for each in {folder for _, folder in rows}}
        there = {each for each, folder in folders.items() if folder.is_dir()}
        return {name: folders[folder] for name, folder in rows if folder in there}

    def take(self, names: Iterable[str]) -> None:
        """Assigns documents to this folder: other folders no longer withdraw them or send them unasked."""
        with self._open() as database:
            database.executemany(
                "DELETE FROM published_files WHERE cluster = ? AND tenant = ? AND folder <> ? AND path = ?",
                [(*self._scope, name) for name in names],
            )

    def last_published(self) -> datetime | None:
        """Returns when a file of the folder was last sent, or None."""
        sent = [at for (at,) in self._select("max(published_at)") if at is not None]
        return datetime.fromisoformat(sent[0]) if sent else None

    def remember(self, states: Mapping[str, FileState], withdrawn: Iterable[str] = ()) -> None:
        """Stores files that Kafka has confirmed, and deletes the rows of those that were withdrawn."""
        with self._open() as database:
            self._insert(database, states, "excluded.published_at")
            database.executemany(
                f"DELETE FROM published_files {_WHERE} AND path = ?", [(*self._scope, name) for name in withdrawn]
            )

    def refresh(self, states: Mapping[str, FileState]) -> None:
        """Stores the new state of files that were touched but did not change; keeps the time when they were sent."""
        with self._open() as database:
            self._insert(database, states, "published_at")

    def _insert(self, database: sqlite3.Connection, states: Mapping[str, FileState], published_at: str) -> None:
        now = datetime.now(UTC).isoformat()
        database.executemany(
            "INSERT INTO published_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "mtime_ns = excluded.mtime_ns, size = excluded.size, sha256 = excluded.sha256, "
            "options = excluded.options, submitted_at = coalesce(excluded.submitted_at, submitted_at), "
            f"published_at = {published_at}",
            [(*self._scope, name, *_columns(each), now, _text(each.submitted_at)) for name, each in states.items()],
        )

    @property
    def _scope(self) -> tuple[str, str, bytes]:
        return self.cluster, self.tenant, os.fsencode(self.folder)  # a file name need not be Unicode

    def _select(self, columns: str) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        with self._open() as database:
            return database.execute(f"SELECT {columns} FROM published_files {_WHERE}", self._scope).fetchall()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            create_folder(self.path.parent)
            create_file(self.path)
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as database, database:
                database.execute(_TABLE)
                _add_missing_column(database)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(
                f"{self.path} cannot be used ({error}): make it writable, or remove it, "
                "after which the next publish sends every file again and withdraws none"
            ) from error


def _columns(state: FileState) -> tuple[int, int, str, str]:
    return -1 if state.mtime_ns is None else state.mtime_ns, state.size, state.sha256, state.options


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _add_missing_column(database: sqlite3.Connection) -> None:
    """Upgrades a table that an earlier version made."""
    known = "SELECT 1 FROM pragma_table_info('published_files') WHERE name = 'submitted_at'"
    if database.execute(known).fetchone() is None:
        database.execute("BEGIN IMMEDIATE")  # another process may do the same
        if database.execute(known).fetchone() is None:
            database.execute("ALTER TABLE published_files ADD COLUMN submitted_at TEXT")
        database.commit()
