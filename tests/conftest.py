"""Fixtures of the whole suite, each technology's in ``tests/fixtures``, and the order of its tiers.

Pure tests come first, then contracts with real parts, then whole flows: what fails cheaply fails early.
"""

from __future__ import annotations

from pathlib import Path

import pytest

INFRA = Path(__file__).parent / "infra"
pytest_plugins = [
    "tests.fixtures.kafka",
    "tests.fixtures.milvus",
    "tests.fixtures.models",
    "tests.fixtures.registry",
    "tests.fixtures.sql",
    "tests.fixtures.stack",
    "tests.fixtures.tiny_model",
]

REAL_PARTS = frozenset(
    {
        "base_model",
        "kafka_bootstrap",
        "kafka_broker",
        "milvus_server",
        "milvus_uri",
        "postgres_url",
        "registry_template",
        "running_home",
        "sentence_embedder",
        "session_engine",
        "tiny_model",
    }
)
"""Fixtures that start or load something real; a test that needs one of them is not fast."""
TWINS = frozenset({"memory", "twin"})
"""The parameter by which a contract test runs on a memory twin."""


def _tier(item: pytest.Item) -> int:
    if item.get_closest_marker("flow"):
        return 2
    if REAL_PARTS & set(getattr(item, "fixturenames", ())):
        return 1
    # What stands below tests/infra is about technology, and fast only where it runs on a twin.
    parameters = {str(value) for value in getattr(getattr(item, "callspec", None), "params", {}).values()}
    is_contract = "stores" in getattr(item, "fixturenames", ()) or INFRA in item.path.parents
    return 1 if is_contract and not parameters & TWINS else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the fast tests and puts the tiers in order, each in the order of its files."""
    for item in items:
        if _tier(item) == 0:
            item.add_marker("fast")
    items.sort(key=_tier)
