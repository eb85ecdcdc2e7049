"""Separates failures of the database, which pass with time, from faults in a statement."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import (
    DatabaseError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from infra.credentials import hide
from schemas.errors import Unavailable

_CLOSED = "check that it runs, or set [sql] url in everlearn.toml"
_ADVICE_BY_TEXT = {
    "no such table": "its tables are missing or of another version: run 'everlearn up'",
    "no such column": "its tables are missing or of another version: run 'everlearn up'",
    "is locked": "another process has held the write lock for too long: wait, or end it",
    "unable to open": "run 'everlearn up' to create it, and check who may write there",
    "readonly": "make the file and its folder writable",
    "disk is full": "make room on its disk",
    "malformed": "the file is damaged: restore it, or choose another [sql] url",
    "not a database": "the file is something else: choose another [sql] url",
}
"""SQLite's message, and what to do."""
_ADVICE_BY_STATE = {
    "42P01": "its tables are missing or of another version: run 'everlearn up'",
    "42703": "its tables are missing or of another version: run 'everlearn up'",
    "3D000": "its database is missing: create it, then run 'everlearn up'",
    "3F000": "its schema is missing: run 'everlearn up'",
    "42501": "grant its user the right to read and write Everlearn's tables",
    "53100": "make room on its disk",
    "53200": "give it more memory",
    "53300": "raise its max_connections, or end other clients",
    "25006": "it only reads: name its primary server in [sql] url",
}
"""PostgreSQL's SQLSTATE, where its driver reports a fault in the statement, and what to do."""
_LIMIT_CLASS = "54"
_STALE_PLAN = "cached plan must not change result type"


@contextmanager
def failures_as_unavailable(url: URL) -> Iterator[None]:
    """Raises Unavailable in place of a failure of the database; lets every other exception pass.

    A lock that is not released, a lost connection, a full disk, missing tables: none of these is the event's fault, so
    the event must not go to a dead-letter topic.
    """
    try:
        yield
    except DBAPIError as error:
        advice = _advice(error)
        if advice is None:
            raise
        raise Unavailable(f"SQL at {place(url)}: {one_line(error.orig or error, url)}; {advice}") from error
    except (PoolTimeout, PendingRollbackError) as error:
        raise Unavailable(f"SQL at {place(url)}: {one_line(error, url)}; {_CLOSED}") from error


def is_passing(error: DBAPIError) -> bool:
    """Whether the database failed, and not the statement."""
    return _advice(error) is not None


def place(url: URL) -> str:
    """Names the database in a message: by its path, or by its URL without the password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}, drivername="postgresql").render_as_string(hide_password=True)


def one_line(error: BaseException, url: URL) -> str:
    """Returns the driver's error on one line, without the password, however the driver or the URL writes it."""
    given = [url.query.get(name) for name in ("password", "sslpassword")]
    secrets = [url.password, *(each for each in given if isinstance(each, str))]
    return " ".join(hide(str(error), secrets).split()) or type(error).__name__


def _advice(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _ADVICE_BY_STATE:
        return _ADVICE_BY_STATE[state]
    if _STALE_PLAN in str(error.orig):
        return "its tables were changed meanwhile: restart this worker"
    if state.startswith(_LIMIT_CLASS) and not error.connection_invalidated:
        return None  # the value is too large for PostgreSQL, and stays so
    # the plain DatabaseError is what SQLite's driver raises for a damaged file
    passing = isinstance(error, (OperationalError, InterfaceError, InternalError)) or type(error) is DatabaseError
    if not passing and not error.connection_invalidated:
        return None
    text = str(error.orig)
    return next((advice for known, advice in _ADVICE_BY_TEXT.items() if not state and known in text), _CLOSED)
