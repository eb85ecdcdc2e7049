"""Fixtures of the whole suite, each technology's in ``tests/fixtures``, and the order of its tiers.

Pure tests come first, then contracts with real parts, then whole flows: what fails cheaply fails early. Of several
test processes one begins with the loop, which takes as long as half of all others.
"""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pytest

gc.set_threshold(50_000)  # a test process holds thousands of tests: looking for garbage among them took an eighth of it

PARALLEL = "PYTEST_XDIST_WORKER" in os.environ
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


MODELS = {
    "test_bad_adapters.py": "engines",
    "test_engine.py": "engines",
    "test_engine_transformers.py": "engines",
    "test_models.py": "engines",
    "test_prefixes.py": "engines",
    "test_torch_team.py": "engines",
    "test_torch_threads.py": "engines",
    "test_validation.py": "engines",
    "test_no_drift.py": "messages",
    "test_shop.py": "messages",
    "test_lora.py": "trainings",
    "test_quantization.py": "trainings",
    "test_quantizing.py": "trainings",
    "test_registry.py": "trainings",
    "test_registry_connection.py": "trainings",
    "test_training_run.py": "trainings",
}
"""Files whose tests load models or MLflow, and what they share: one process runs a group, others never load it."""
BROKER = (
    "tests/agents/cli/",
    "tests/flows/test_delivery_faults.py",
    "tests/flows/test_stream_on_kafka.py",
    "tests/infra/kafka/test_fleet.py",
    "tests/infra/kafka/test_clients.py",
)
"""Folders and files whose tests share a broker, and so a process."""
STACKS = dict.fromkeys(
    ("tests/flows/test_stack.py", "tests/flows/test_documents.py", "tests/flows/test_question_to_interaction.py"),
    "stacks",
)
"""Files of one process, so that their stacks are there one after the other, beside the loop in another process."""
LONGEST = (
    "test_loop.py",
    "stacks",
    "broker",
    "engines",
    "trainings",
    "test_openvino_embedding.py",
    "test_broker_faults.py",
    "test_kafka.py",
    "test_wiring.py",
    "test_real_passages.py",
    "test_runs.py",
    "test_supervisor.py",
    "test_rebuilding.py",
)
"""Files and groups begun before the other real parts, so that none is left with a long one when the others end.

The first is begun even before the pure tests.
"""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file or a group of files to a process, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling

    class ByLibraries(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False
    return ByLibraries(config, log)


def _group(nodeid: str) -> str:
    """The tests that run in one process, one after the other."""
    file = nodeid.partition("::")[0]
    return "broker" if file.startswith(BROKER) else STACKS.get(file) or MODELS.get(Path(file).name, file)


def _place(item: pytest.Item) -> tuple[int, int, int]:
    """Where a test stands among the others; in one process of several so that all of them end together."""
    tier = _tier(item)
    if PARALLEL and tier:
        group = _group(item.nodeid).rpartition("/")[2]
        longest = LONGEST.index(group) if group in LONGEST else len(LONGEST)
        return (1 if longest else -1, longest, tier)
    return (0, 0, tier)


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
    items.sort(key=_place)
