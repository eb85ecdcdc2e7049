"""Connects to SQLite or PostgreSQL, and lets all stores of a database share one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from infra.sql.failures import failures_as_unavailable
from schemas.errors import ConfigurationError

BUSY_SECONDS = 30.0
"""How long a statement waits for SQLite's write lock."""
WAL_BYTES = 64 * 1024 * 1024
"""SQLite's log is cut to this size when its content is in the database."""

_EXAMPLE = "sqlite:////path/to/everlearn.db or postgresql+psycopg://user@host/database"
_LOCK = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")
_SHARED_LOCK = text("SELECT pg_advisory_xact_lock_shared(key) FROM unnest(CAST(:keys AS bigint[])) AS key")


class LastWrite(Protocol):
    """Something that a transaction writes at its end, whatever came before."""

    def write(self) -> None: ...


L = TypeVar("L", bound=LastWrite)


class Database:
    """A database by its URL, SQLite or PostgreSQL. Connects at the first use. Threads and processes may share it.

    Inside ``transaction``, every ``connection`` of the same thread or task is the transaction's. After a failure inside
    it, a transaction always ends with that failure, even when a caller has caught it: PostgreSQL would otherwise drop
    everything silently, and SQLite would commit half of a batch.
    """

    def __init__(
        self, url: str, *, busy_seconds: float = BUSY_SECONDS, check: Callable[[Connection], None] | None = None
    ) -> None:
        """``check`` is called at the beginning of each transaction; it may raise Unavailable."""
        self.url = parse_url(url)
        self._check = check
        self._engine = _engine(self.url, busy_seconds)
        self._opened: ContextVar[_Opened | None] = ContextVar("opened", default=None)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.url.get_backend_name()

    @property
    def current(self) -> object | None:
        """An object that stands for the open transaction of this thread or task; None where none is open."""
        return self._current()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commits at the end and rolls back on an exception. Joins a transaction that is open already.

        Raises Unavailable when SQL cannot be reached. It is then unknown whether a commit took place.
        """
        outer = self._current()
        if outer is not None:
            with outer.kept_failure():
                yield
            return
        with self._begin(write=True) as connection:
            opened = _Opened(connection)
            token = self._opened.set(opened)
            try:
                yield
                if opened.failure is not None:
                    raise opened.failure
                for last in opened.last_writes.values():
                    last.write()
            finally:
                self._opened.reset(token)

    @contextmanager
    def connection(self, *, write: bool = False) -> Iterator[Connection]:
        """Yields the open transaction's connection, or one of its own that commits at the end of the block."""
        current = self._current()
        if current is None:
            with self._begin(write=write) as connection:
                yield connection
        else:
            with current.kept_failure(), failures_as_unavailable(self.url):
                yield current.connection

    def last_write(self, kind: Callable[[Database], L]) -> L:
        """Inside a transaction: returns its one object of this kind, whose ``write`` is called before the commit."""
        opened = self._current()
        if opened is None:
            raise RuntimeError("no transaction is open")
        if kind not in opened.last_writes:
            opened.last_writes[kind] = kind(self)
        found: L = opened.last_writes[kind]
        return found

    def lock(self, connection: Connection, names: Iterable[str], *, shared: bool = False) -> None:
        """Locks names until the transaction ends; a name may stand for a row that does not exist yet.

        Several transactions may hold a ``shared`` lock. On SQLite a write transaction locks the whole database anyway.
        """
        if self.dialect == "postgresql":
            # Every transaction locks in the same order, so that no two block each other.
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
                if self._check is not None:
                    self._check(connection)
                yield connection

    def _current(self) -> _Opened | None:
        # An asyncio task that was started inside a transaction inherits the variable, and may run on after its end.
        opened = self._opened.get()
        return None if opened is None or opened.connection.closed else opened


class _Opened:
    """An open transaction, and the first failure inside it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.failure: BaseException | None = None
        self.last_writes: dict[Any, Any] = {}

    @contextmanager
    def kept_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.failure = self.failure or error
            raise


def parse_url(url: str) -> URL:
    """Parses the URL of a SQLite file or a PostgreSQL database. Raises ConfigurationError, without the password."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password, so the error shows neither it nor the cause.
        raise ConfigurationError(f"[sql] url is not an SQLAlchemy URL: write one like {_EXAMPLE}") from None
    if "@" in (parsed.host or ""):
        raise ConfigurationError("[sql] url holds an @ in its user name or its password: write it as %40")
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
        # Notice within half a minute that a server is gone.
        options = {"connect_timeout": 10, "keepalives_idle": 15, "keepalives_interval": 5, "tcp_user_timeout": 30_000}
        return create_engine(url, pool_pre_ping=True, connect_args=options, isolation_level="READ COMMITTED")
    engine = create_engine(url, poolclass=QueuePool, creator=lambda: open_sqlite(str(url.database), busy_seconds))
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def open_sqlite(path: str, busy_seconds: float = BUSY_SECONDS, *, mode: str = "rw") -> sqlite3.Connection:
    """Opens a file; transactions begin by explicit BEGIN. In mode ``rw`` a missing file is an error."""
    return sqlite3.connect(
        f"{Path(path).as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )


def _set_up_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # Without the limit, the WAL file stays as large as it ever was, such as while a long read held up its checkpoint.
    limit = f"journal_size_limit = {WAL_BYTES}"
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", limit):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that reads first and writes later fails when another process has written in between.
    # One that takes the write lock at its beginning waits for the lock instead.
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _lock_key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
