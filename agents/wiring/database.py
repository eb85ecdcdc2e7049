"""One database object a process: a store takes part in the journal's transaction only through the very same object."""

from __future__ import annotations

from functools import cache

from infra.settings import Settings
from infra.sql.database import Database


def database_of(settings: Settings) -> Database:
    """The configured database, the same object each time."""
    return _database(settings.sql_url())


@cache
def _database(url: str) -> Database:
    return Database(url)
