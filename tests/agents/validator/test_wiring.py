"""Describing the validator's worker loads nothing heavy; its runs are a function of the child process."""

import importlib
import subprocess
import sys

from agents.wiring.validator import build
from infra.settings import Settings
from schemas.topics import TOPICS


def test_the_worker_reads_and_follows_what_the_topic_table_says(tmp_path):
    worker = build(Settings(home=tmp_path))
    assert set(worker.topics) == {topic.name for topic in TOPICS if "validator" in topic.readers}
    assert {each.topic for each in worker.followers} == {
        topic.name for topic in TOPICS if "validator" in topic.followers
    }


def test_the_run_is_a_function_that_exists(tmp_path):
    (kind,) = build(Settings(home=tmp_path)).runs
    module, _, function = kind.entry.partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_describing_the_worker_imports_no_model_library():
    script = """
import sys, pathlib
from agents.wiring.validator import build
from infra.settings import Settings
build(Settings(home=pathlib.Path("/nowhere")))
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "mlflow", "peft", "pandas", "pyarrow")))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
