"""What every store of secrets promises: a secret is made once, differs from others, and nobody can guess it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.memory.database import MemoryDatabase
from infra.memory.secrets import MemorySecrets
from infra.sql.database import Database
from infra.sql.secrets import SqlSecrets


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def secrets(request: pytest.FixtureRequest) -> Iterator[MemorySecrets | SqlSecrets]:
    if request.param == "memory":
        yield MemorySecrets(MemoryDatabase())
        return
    name = {"sqlite": "migrated_sqlite_url", "postgresql": "migrated_postgres_url"}[request.param]
    database = Database(request.getfixturevalue(name))
    yield SqlSecrets(database)
    database.close()


def test_a_secret_is_made_once_and_differs_from_others(secrets: MemorySecrets | SqlSecrets):
    first = secrets.secret("split")

    assert len(first) == 64
    assert secrets.secret("split") == first
    assert secrets.secret("other") != first


def test_workers_that_ask_at_once_get_the_same(secrets: MemorySecrets | SqlSecrets):
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(lambda _: secrets.secret("split"), range(8)))) == 1
