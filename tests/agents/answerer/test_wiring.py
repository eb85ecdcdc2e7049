"""Building the answerer's worker: what it waits for, what it refuses, and what importing its wiring loads."""

import subprocess
import sys

import pytest

from agents.wiring.answerer import build
from agents.wiring.engines import load_engine
from infra.settings import Settings
from schemas.errors import ConfigurationError, Unavailable
from schemas.policies import ModelSettings


def test_it_waits_for_an_embedded_milvus_that_does_not_run(tmp_path):
    with pytest.raises(Unavailable, match="no embedded milvus runs"):
        build(Settings(home=tmp_path))


def test_a_base_model_that_is_not_there_is_told_before_libraries_are_loaded():
    script = """
import sys, pathlib
from schemas.errors import ModelMissing
from agents.wiring.engines import load_engine
from infra.settings import Settings
from schemas.policies import ModelSettings
try:
    load_engine(Settings(home=pathlib.Path("/nowhere"), model=ModelSettings(base="/no/such")))
except ModelMissing as error:
    print(error, "torch" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "there is no such folder" in said
    assert said.endswith(" False\n")


def test_importing_the_wiring_loads_no_model_library():
    script = """
import sys
import agents.wiring.answerer
import infra.models.loading, infra.embedding.embedder, infra.adapters.store
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "sentence_transformers", "peft", "pymilvus")))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_unknown_engine_is_named_with_those_that_exist(tmp_path):
    with pytest.raises(ConfigurationError, match=r"\[model\] engine is 'vlm': choose from transformers"):
        load_engine(Settings(home=tmp_path, model=ModelSettings(engine="vlm")))
