"""Fixtures of the whole suite, each technology's in ``tests/fixtures``, and the order of its tiers.

Pure tests come first, then contracts with real parts, then whole flows: what fails cheaply fails early.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Read when torch is loaded, here and in what is started from here. The threads of several processes wait for each
    # other in loops and take more of the processor than the work: a training among others took three times as much.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

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


SLOW_TO_IMPORT = ("test_lora.py", "test_engine_transformers.py")
"""Their libraries take ten seconds. Below tests/infra, without twins: none of their tests is fast."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The fast tier does not wait for imports of what it does not run."""
    return True if config.option.markexpr == "fast" and collection_path.name in SLOW_TO_IMPORT else None


def _tier(item: pytest.Item) -> int:
    if item.get_closest_marker("flow"):
        return 2
    if item.get_closest_marker("processes"):
        return 1
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
