"""Fixtures of the whole suite, each technology's in ``tests/fixtures``, and the order of its tiers.

Pure tests come first, then contracts with real parts, then whole flows: what fails cheaply fails early.
"""

from __future__ import annotations

import pytest

pytest_plugins = [
    "tests.fixtures.kafka",
    "tests.fixtures.milvus",
    "tests.fixtures.models",
    "tests.fixtures.sql",
    "tests.fixtures.stack",
]

REAL_PARTS = frozenset(
    {"kafka_bootstrap", "kafka_broker", "milvus_uri", "milvus_server", "postgres_url", "base_model", "embedder"}
)
"""Fixtures that start or load something real; a test that needs one of them is not fast."""


def _tier(item: pytest.Item) -> int:
    if item.get_closest_marker("flow"):
        return 2
    return 1 if REAL_PARTS & set(getattr(item, "fixturenames", ())) else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the fast tests and puts the tiers in order, each in the order of its files."""
    for item in items:
        if _tier(item) == 0:
            item.add_marker("fast")
    items.sort(key=_tier)
