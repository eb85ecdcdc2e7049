"""The contract of the retention suite: rows come back exactly, once each, and a sample is always the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from infra.memory.database import MemoryDatabase
from infra.memory.retention import MemoryRetention
from infra.sql.database import Database
from infra.sql.retention import SqlRetention
from schemas.datasets import DatasetRow
from tests.fixtures.sql import TECHNOLOGIES

NOW = datetime(2026, 3, 1, 12, 0, 0, 999999, tzinfo=UTC)


@pytest.fixture(params=TECHNOLOGIES)
def suite(request):
    if request.param == "memory":
        memory = MemoryDatabase()
        yield memory, MemoryRetention(memory)
        return
    name = {"sqlite": "migrated_sqlite_url", "postgresql": "migrated_postgres_url"}[request.param]
    database = Database(request.getfixturevalue(name))
    yield database, SqlRetention(database)
    database.close()


def row(number, **changes):
    return DatasetRow(
        **{
            "row_id": f"r{number}",
            "input": f"What's \x1b ☃ {number}?",
            "output": "orders",
            "origin": "correction",
            "origin_id": f"a{number}",
            "at": NOW,
            "split": "holdout",
            "fresh": False,
            "sources": ({"text": "t", "score": 0.1},),
            **changes,
        }
    )


def test_rows_come_back_as_they_were_added_each_once(suite):
    database, retention = suite
    with database.transaction():
        retention.add("routing", [row(1), row(2)], "d1", NOW)
        retention.add("routing", [replace(row(2), output="changed"), row(3)], "d2", NOW)
        retention.add("support", [row(9)], "d3", NOW)
        retention.add("support", [], "d3", NOW)
    assert sorted(retention.rows("routing", 10), key=lambda each: each.row_id) == [row(1), row(2), row(3)]
    assert retention.rows("support", 10) == [row(9)]
    assert retention.rows("unknown", 10) == []


def test_a_part_of_the_rows_is_always_the_same_part(suite):
    database, retention = suite
    rows = [row(number) for number in range(600)]
    with database.transaction():
        retention.add("routing", rows[::-1], "d1", NOW)
    wanted = sorted(rows, key=lambda each: each.sampling_key)
    assert retention.rows("routing", 550) == wanted[:550]
    assert retention.rows("routing", 3) == wanted[:3]
    assert retention.rows("routing", 0) == []


def test_what_a_failed_transaction_added_is_not_there(suite):
    database, retention = suite

    def fail():
        with database.transaction():
            retention.add("routing", [row(1)], "d1", NOW)
            raise RuntimeError("after the rows")

    with pytest.raises(RuntimeError):
        fail()
    assert retention.rows("routing", 10) == []
