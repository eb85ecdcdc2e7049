"""The workers whose work is done by runs: they read what the topic table says, and load nothing that only runs need."""

import importlib
import subprocess
import sys

import pytest

from infra.settings import Settings
from schemas.topics import TOPICS

AGENTS = ("trainer", "validator", "quantizer")


def build(agent, home):
    return importlib.import_module(f"agents.wiring.{agent}").build(Settings(home=home))


@pytest.mark.parametrize("agent", AGENTS)
def test_the_worker_reads_and_follows_what_the_topic_table_says(agent, tmp_path):
    worker = build(agent, tmp_path)
    assert worker.agent == agent
    assert set(worker.topics) == {topic.name for topic in TOPICS if agent in topic.readers}
    assert {each.topic for each in worker.followers} == {topic.name for topic in TOPICS if agent in topic.followers}


@pytest.mark.parametrize("agent", AGENTS)
def test_the_run_is_a_function_that_exists(agent, tmp_path):
    (kind,) = build(agent, tmp_path).runs
    module, _, function = kind.entry.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.processes
@pytest.mark.parametrize("agent", AGENTS)
def test_building_the_worker_imports_no_model_library(agent):
    script = f"""
import sys, pathlib
from agents.wiring.{agent} import build
from infra.settings import Settings
build(Settings(home=pathlib.Path("/nowhere")))
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "mlflow", "peft", "pandas", "pyarrow")))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
