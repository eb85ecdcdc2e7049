"""Upgrades the SQL schema to the version of this code, and checks its version."""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from infra.private_files import create_file
from infra.sql.database import Database, open_sqlite
from schemas.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).parent.parent / "migrations"
_OLDER = "the SQL schema is older than this Everlearn: run 'everlearn up' to upgrade it"


def migrate(url: str) -> None:
    """Creates or upgrades the tables. Safe to repeat, also from several processes at once.

    Raises ConfigurationError when the file cannot be created or the schema is newer than this code, Unavailable
    when SQL cannot be reached.
    """
    database = Database(url)
    if database.dialect == "sqlite":
        _create_file(Path(str(database.url.database)))
    from alembic import command

    try:
        # The whole upgrade is one transaction, and a second process waits for it: on SQLite because a write
        # transaction locks the database, on PostgreSQL because of this lock.
        with database.connection(write=True) as connection:
            database.lock(connection, ["everlearn schema"])
            _refuse_newer(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        database.close()


def check_migrated(database: Database) -> None:
    """Raises ConfigurationError when the schema is missing, older or newer than this code."""
    if database.dialect == "sqlite" and not Path(str(database.url.database)).is_file():
        raise ConfigurationError(f"there is no database {database.url.database}: run 'everlearn up' to create it")
    with database.connection() as connection:
        _refuse_newer(connection)
        if _revision(connection) != known_revisions()[0]:
            raise ConfigurationError(_OLDER)


def require_version(connection: Connection) -> None:
    """Raises Unavailable while the schema is older or newer than this code; a worker waits until it is neither.

    A worker of another version than the schema's could fail at a good event, or write rows that others misunderstand.
    """
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    newest, *older = known_revisions()
    if revision == newest:
        return
    raise Unavailable(_OLDER if revision is None or revision in older else _newer(revision))


def _refuse_newer(connection: Connection) -> None:
    revision = _revision(connection)
    if revision is not None and revision not in known_revisions():
        raise ConfigurationError(_newer(revision))


def _newer(revision: str) -> str:
    return (
        f"the SQL schema is at version {revision}, which this Everlearn does not know: install the newer Everlearn "
        "that made it, or choose another [sql] url"
    )


@cache
def known_revisions() -> tuple[str, ...]:
    """The versions of the schema, newest first. Read without Alembic, which takes a worker a third of a second."""
    before: dict[str | None, str] = {}
    for path in (SCRIPTS / "versions").glob("[0-9]*.py"):
        names = dict(re.findall(r'^(revision|down_revision)\b[^=]*= "?(\w+)"?$', path.read_text("utf-8"), re.MULTILINE))
        before[names["down_revision"]] = names["revision"]
    found = [before["None"]]
    while found[-1] in before:
        found.append(before[found[-1]])
    return tuple(reversed(found))


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    # Alembic interpolates its settings, so a percent sign in the path is written twice.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _create_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        create_file(path)
        connection = open_sqlite(str(path), mode="rwc")
        try:
            connection.execute("PRAGMA user_version")
        finally:
            connection.close()
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"the database {path} cannot be opened or created ({error}): "
            "make its folder writable, or choose another home"
        ) from error
