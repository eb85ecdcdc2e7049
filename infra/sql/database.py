"""The connection to SQL: transactions that every store of one database takes part in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from infra.sql.failures import failures_as_unavailable
from schemas.errors import ConfigurationError

BUSY_SECONDS = 30.0
"""How long a statement waits for SQLite's write lock."""

_EXAMPLE = "sqlite:////path/to/everlearn.db or postgresql+psycopg://user@host/database"
_LOCK = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
_SHARED_LOCK = text("SELECT pg_advisory_xact_lock_shared(key) FROM unnest(CAST(:keys AS bigint[])) AS key")


class Database:
    """SQLite or PostgreSQL by URL. Opens nothing until it is used; usable from many threads and many processes.

    Inside ``transaction`` every ``connection`` of the same thread or task is the transaction's. A failure inside a
    transaction dooms it: it ends with that failure even when somebody caught it on the way, because PostgreSQL would
    drop everything silently and SQLite would keep half of a batch.
    """

    def __init__(self, url: str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.url = parse_url(url)
        self._engine = _engine(self.url, busy_seconds)
        self._opened: ContextVar[_Opened | None] = ContextVar("opened", default=None)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.url.get_backend_name()

    @property
    def current(self) -> object | None:
        """The transaction that is open here and now: the same object until it ends; None where none is open."""
        return self._current()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits at the end, rolls back on an exception; joins the transaction that is open already.

        Raises Unavailable when SQL cannot be reached; whether a lost commit took place is then unknown.
        """
        outer = self._current()
        if outer is not None:
            with outer.doomed_by_failure():
                yield
            return
        with self._begin(write=True) as connection:
            opened = _Opened(connection)
            token = self._opened.set(opened)
            try:
                yield
                if opened.failure is not None:
                    raise opened.failure
            finally:
                self._opened.reset(token)

    @contextmanager
    def connection(self, *, write: bool = False) -> Iterator[Connection]:
        """The open transaction's connection, or one of its own that commits at the end of the block."""
        current = self._current()
        if current is None:
            with self._begin(write=write) as connection:
                yield connection
        else:
            with current.doomed_by_failure(), failures_as_unavailable(self.url):
                yield current.connection

    def lock(self, connection: Connection, names: Iterable[str], *, shared: bool = False) -> None:
        """Keeps other transactions from locking these names until this one ends, rows that do not exist yet included.

        A ``shared`` lock keeps them from locking alone. SQLite's transactions hold the whole database already.
        """
        if self.dialect == "postgresql":
            # one order for everybody, against deadlocks
            keys = sorted({_lock_key(name) for name in names})
            connection.execute(_SHARED_LOCK if shared else _LOCK, {"keys": keys})

    def close(self) -> None:
        """Closes idle connections; the database opens again when it is used again."""
        self._engine.dispose()

    @contextmanager
    def _begin(self, *, write: bool) -> Iterator[Connection]:
        with failures_as_unavailable(self.url), self._engine.connect() as connection:
            connection.execution_options(write=write)
            with connection.begin():
                yield connection

    def _current(self) -> _Opened | None:
        # A task that was started inside a transaction inherits the variable and may outlive the transaction.
        opened = self._opened.get()
        return None if opened is None or opened.connection.closed else opened


class _Opened:
    """The transaction that is open, and the failure that dooms it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.failure: BaseException | None = None

    @contextmanager
    def doomed_by_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.failure = self.failure or error
            raise


def parse_url(url: str) -> URL:
    """Raises ConfigurationError, never showing the password, unless it is a file of SQLite's or a PostgreSQL URL."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # the text may hold a password, so it is not shown, and neither is the cause
        raise ConfigurationError(f"[sql] url is not an SQLAlchemy URL: write one like {_EXAMPLE}") from None
    backend = parsed.get_backend_name()
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite":
        raise ConfigurationError(f"[sql] url names {backend!r}, which is not supported: write one like {_EXAMPLE}")
    if not parsed.database or parsed.database.startswith((":", "file:")) or parsed.query or parsed.host:
        raise ConfigurationError(f"[sql] url must name a file of SQLite's and nothing else: write one like {_EXAMPLE}")
    return parsed.set(drivername="sqlite", database=str(Path(parsed.database).expanduser().absolute()))


def _engine(url: URL, busy_seconds: float) -> Engine:
    if url.get_backend_name() == "postgresql":
        # A server that vanished without a word is noticed in half a minute.
        options = {"connect_timeout": 10, "keepalives_idle": 15, "keepalives_interval": 5, "tcp_user_timeout": 30_000}
        return create_engine(url, pool_pre_ping=True, connect_args=options, isolation_level="READ COMMITTED")
    engine = create_engine(url, poolclass=QueuePool, creator=lambda: open_sqlite(str(url.database), busy_seconds))
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def open_sqlite(path: str, busy_seconds: float = BUSY_SECONDS, *, mode: str = "rw") -> sqlite3.Connection:
    """A connection that leaves BEGIN to us; in mode ``rw`` a missing file is an error and not created."""
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )


def _set_up_sqlite(connection: Any, _: ConnectionPoolEntry) -> None:
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails at once when another process wrote in between;
    # taking the write lock at the beginning waits for it instead.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _lock_key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
