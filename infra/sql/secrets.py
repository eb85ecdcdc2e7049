"""Keeps the home's secrets in SQL, which all workers of a fleet share; the database is readable for its user alone."""

from __future__ import annotations

from secrets import token_hex

from sqlalchemy import select

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import insert_once

_secrets = tables.secrets.c


class SqlSecrets:
    """Random texts by name. A secret never changes once it was read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def secret(self, name: str) -> str:
        """Returns the secret, 64 hexadecimal digits. The first call makes it. Raises Unavailable."""
        wanted = select(_secrets.value).where(_secrets.name == name)
        with self._database.connection() as connection:
            found: str | None = connection.execute(wanted).scalar()
        if found is not None:
            return found
        with self._database.connection(write=True) as connection:
            made = {"name": name, "value": token_hex(32)}
            connection.execute(insert_once(self._database.dialect, tables.secrets), made)
            return str(connection.execute(wanted).scalar_one())
