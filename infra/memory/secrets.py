"""The in-memory twin of ``infra.sql.secrets``."""

from __future__ import annotations

from secrets import token_hex

from infra.memory.database import MemoryDatabase


class MemorySecrets:
    """Random texts by name."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def secret(self, name: str) -> str:
        """Returns the secret, 64 hexadecimal digits. The first call makes it."""
        with self._database.table("secrets") as secrets:
            found: str = secrets.setdefault(name, token_hex(32))
        return found
