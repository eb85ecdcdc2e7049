"""Describing the answerer's worker loads nothing; its models come when it starts."""

import subprocess
import sys

import pytest

from agents.wiring.answerer import build
from infra.settings import AnswererSettings, Settings
from schemas.errors import Unavailable


def test_the_worker_reads_questions_and_follows_promotions(tmp_path):
    worker = build(Settings(home=tmp_path, answerer=AnswererSettings(batch=7)))
    assert (worker.agent, worker.topics, worker.batch_size) == ("answerer", ("questions.v1",), 7)
    assert [follower.topic for follower in worker.followers] == ["promotions.v1"]
    assert worker.serves is not None
    assert list(worker.serves()) == []


async def test_before_it_has_started_it_asks_for_patience(tmp_path):
    with pytest.raises(Unavailable, match="has not loaded its models yet"):
        await build(Settings(home=tmp_path)).handle([])


def test_it_waits_for_an_embedded_milvus_that_does_not_run(tmp_path):
    worker = build(Settings(home=tmp_path))
    assert worker.start is not None
    with pytest.raises(Unavailable, match="no embedded milvus runs"):
        worker.start()


def test_a_base_model_that_is_not_there_is_told_before_libraries_are_loaded():
    script = """
import sys, pathlib
from schemas.errors import ModelMissing
from agents.wiring.answerer import _engine
from infra.settings import ModelSettings, Settings
try:
    _engine(Settings(home=pathlib.Path("/nowhere"), model=ModelSettings(base="/no/such")))
except ModelMissing as error:
    print(error, "torch" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "there is no such folder" in said
    assert said.endswith(" False\n")


def test_describing_the_worker_imports_no_model_library():
    script = """
import sys, pathlib
from agents.wiring.answerer import build
from infra.settings import Settings
build(Settings(home=pathlib.Path("/nowhere")))
import infra.models.loading, infra.embedding.embedder, infra.adapters.store
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "sentence_transformers", "peft", "pymilvus")))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
