"""The functions that child processes call, with their real parts: what they return when there is nothing to work on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.wiring.quantizer import quantize_model
from agents.wiring.runs import settings_location
from agents.wiring.validator import validate
from infra.settings import Settings, load
from schemas.errors import ConfigurationError
from tests.fixtures.registry import RegistryIn


@pytest.fixture
def settings(tmp_path: Path, registry_in: RegistryIn) -> Settings:
    home = tmp_path / "home"
    registry_in(home)
    (home / "everlearn.toml").write_text('[tasks.routing]\ninstruction = "Which team?"\nmetric = "exact_match"\n')
    return load(home, environ={})


@pytest.fixture
def folder(settings: Settings) -> Path:
    folder = settings.home / "work" / "runs" / "r1"
    folder.mkdir(parents=True)
    return folder


def test_a_validation_rejects_an_adapter_that_is_not_in_the_registry_and_reports_it(settings: Settings, folder: Path):
    wanted = {"task": "routing", "adapter_id": "a" * 32, "dataset_id": "d1", "champion": None}

    result = validate({**settings_location(settings), **wanted}, folder)

    assert not result["accepted"]
    assert "is not in the registry" in result["reasons"][0]
    page = settings.reports_folder / "validation" / "routing" / f"{'a' * 32}.html"
    assert result["report_uri"] == page.as_uri()
    assert "<strong>Rejected</strong>" in page.read_text()


def test_a_validation_of_a_task_that_was_removed_says_so(settings: Settings, folder: Path):
    wanted = {"task": "gone", "adapter_id": "a" * 32, "dataset_id": "d1", "champion": None}

    with pytest.raises(ConfigurationError, match="there is no task gone: add it"):
        validate({**settings_location(settings), **wanted}, folder)


def test_a_quantization_of_a_model_that_is_not_in_the_registry_gives_the_reason(settings: Settings, folder: Path):
    result = quantize_model({**settings_location(settings), "name": "m", "version": 1, "scheme": "int8"}, folder)

    assert "the registry has no version 1 of it" in result["reason"]
