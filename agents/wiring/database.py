"""Gives every store of a process the same database object: only then do they share the journal's transaction.

It waits while the tables are of another version than this code, also when they become so while the process runs.
"""

from __future__ import annotations

from functools import cache

from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.migrate import require_version


def database_of(settings: Settings) -> Database:
    """Returns the configured database, the same object each time."""
    return _database(settings.sql_url())


@cache
def _database(url: str) -> Database:
    return Database(url, check=require_version)
