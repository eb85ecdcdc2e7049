"""The database for commands that look into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.sql.database import Database


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Raises ConfigurationError when there is no database yet, Unavailable when it cannot be reached."""
    from infra.sql.database import Database
    from infra.sql.migrate import check_migrated

    database = Database(settings.sql_url())
    try:
        check_migrated(database)
        yield database
    finally:
        database.close()
