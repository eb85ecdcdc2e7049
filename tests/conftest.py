"""Loads the fixtures of the whole suite, orders its tests in tiers, and groups tests that share something expensive.

Pure tests run first, then contracts with real parts, then whole flows, so that what fails cheaply fails early. With
``-n``, pytest-xdist runs a group in one process (``--dist loadgroup``): the tests of one file, or those that use the
same broker, stack or model.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Read when torch is loaded, here and in child processes. With more threads, the test processes would wait for each
# other's threads most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

INFRA = Path(__file__).parent / "infra"
pytest_plugins = [
    "tests.fixtures.disk",
    "tests.fixtures.kafka",
    "tests.fixtures.milvus",
    "tests.fixtures.models",
    "tests.fixtures.registry",
    "tests.fixtures.sql",
    "tests.fixtures.stack",
    "tests.fixtures.tiny_model",
]

SHARED = {
    "running_home": "stack",
    "kafka_bootstrap": "broker",
    "session_engine": "models",
    "base_model": "models",
    "tiny_model": "models",
    "registry_template": "registry",
}
"""Fixtures that a session makes once and that take long, and the group of the tests that use them."""
REAL_PARTS = frozenset(
    {*SHARED, "kafka_broker", "milvus_server", "milvus_uri", "postgres_url", "sentence_embedder", "small_disk"}
)
"""Fixtures that start or load something real; a test that needs one of them is not fast."""
TWINS = frozenset({"memory", "twin"})
"""The parameter by which a contract test runs on a memory twin."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the fast tests, groups all, and puts the tiers in order, each in the order of its files."""
    for item in items:
        if _tier(item) == 0:
            item.add_marker("fast")
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item)))
    items.sort(key=_tier)


def _group(item: pytest.Item) -> str:
    fixtures = set(getattr(item, "fixturenames", ()))
    shared = next((group for fixture, group in SHARED.items() if fixture in fixtures), None)
    return shared or item.nodeid.partition("::")[0]


def _tier(item: pytest.Item) -> int:
    if item.get_closest_marker("flow"):
        return 2
    fixtures = set(getattr(item, "fixturenames", ()))
    if item.get_closest_marker("processes") or REAL_PARTS & fixtures:
        return 1
    # Tests below tests/infra are about technology, and fast only where they run on a twin.
    parameters = {str(value) for value in getattr(getattr(item, "callspec", None), "params", {}).values()}
    is_contract = "stores" in fixtures or INFRA in item.path.parents
    return 1 if is_contract and not parameters & TWINS else 0
