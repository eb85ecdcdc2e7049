"""The quantizer's run as it really is, on a tiny model: what ends in the registry, and what leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agents.quantizer.work import QuantizationRun
from agents.validator.evaluation import general_texts
from agents.wiring.quantizer import BitsandbytesQuantization, build
from infra.memory.registry import MemoryRegistry
from infra.settings import Settings, load
from schemas.errors import ConfigurationError, Unavailable
from schemas.registry import ModelRecord

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TEXTS = ("the rain falls and the old man runs", "a river is among the oldest of tools")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(home=tmp_path / "home", environ={})


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


def add(registry: MemoryRegistry, location: object) -> ModelRecord:
    return registry.register_model(ModelRecord(name="tiny", location=str(location), size_bytes=9, created_at=NOW))


def quantization(settings: Settings, registry: MemoryRegistry, run_id: str = "r1", **changes: Any) -> QuantizationRun:
    folder = settings.home / "work" / "runs" / run_id
    folder.mkdir(parents=True, exist_ok=True)
    return QuantizationRun(
        **{"name": "tiny", "version": 1, "scheme": "int8", **changes},
        folder=folder,
        models_folder=settings.registry_folder / "models",
        registry=registry,
        quantization=BitsandbytesQuantization(settings, TEXTS),
        policy=settings.quantizer,
        sleep=lambda _: _back(registry),
    )


def _back(registry: MemoryRegistry) -> None:
    registry.away = False


def left(settings: Settings) -> list[str]:
    folder = settings.registry_folder / "models" / "tiny"
    return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []


def test_an_unknown_scheme_in_the_configuration_is_told_at_the_start(settings):
    settings.home.mkdir()
    (settings.home / "everlearn.toml").write_text('[quantizer]\nschemes = ["int3"]\n')
    with pytest.raises(ConfigurationError, match=r"\[quantizer\] schemes: there is no scheme int3"):
        build(load(settings.home, environ={}))


def test_general_text_ships_with_the_package():
    assert len(general_texts()) > 10


def test_a_quantized_model_goes_back_into_the_registry(settings, registry, tiny_model):
    add(registry, tiny_model)
    result = quantization(settings, registry).run()
    told = result["quantized"]
    assert (told["version"], told["scheme"], told["source_version"]) == ("2", "int8", "1")
    assert 0 < told["size_bytes"] < told["source_size_bytes"]
    assert abs(told["loss"] - told["source_loss"]) < 0.1
    newest = max(registry.models("tiny"), key=lambda each: each.version)
    assert newest.location == result["location"] == str(settings.registry_folder / "models" / "tiny" / "1-int8")
    assert (newest.scheme, newest.source_version, newest.loss) == ("int8", 1, told["loss"])
    assert left(settings) == ["1-int8"]


def test_a_second_request_finds_it_done(settings, registry, tiny_model):
    add(registry, tiny_model)
    quantization(settings, registry).run()
    assert quantization(settings, registry, "r2").run() == {"reason": "tiny is registered as int8 already: version 2"}
    assert len(registry.models("tiny")) == 2


def test_a_run_that_was_killed_after_it_registered_tells_of_it_again(settings, registry, tiny_model):
    add(registry, tiny_model)
    first = quantization(settings, registry).run()
    assert quantization(settings, registry).run() == first
    assert len(registry.models("tiny")) == 2


def test_it_waits_for_a_registry_that_is_away(settings, registry, tiny_model):
    add(registry, tiny_model)
    registry.away = True
    assert "quantized" in quantization(settings, registry).run()


@pytest.mark.parametrize(
    ("location", "reason"),
    [("/nowhere/at/all", "there is no such folder"), ("{tmp}", "has no config.json"), ("{broken}", "does not load")],
)
def test_a_model_that_does_not_load_leaves_nothing_behind(settings, registry, tmp_path, tiny_model, location, reason):
    broken = tmp_path / "broken"
    broken.mkdir()
    for each in tiny_model.iterdir():
        (broken / each.name).write_bytes(each.read_bytes())
    (broken / "model.safetensors").write_bytes(b"\0" * 64)
    add(registry, location.format(tmp=tmp_path, broken=broken))
    result = quantization(settings, registry).run()
    assert reason in result["reason"]
    assert "\n" not in result["reason"]
    assert len(registry.models("tiny")) == 1
    assert left(settings) == []


def test_a_model_that_loses_too_much_is_refused(settings, registry, tiny_model):
    registry.register_model(ModelRecord(name="tiny", location=str(tiny_model), size_bytes=9, created_at=NOW, loss=0.01))
    result = quantization(settings, registry, scheme="nf4").run()
    assert "tiny as nf4 failed its checks: its loss on general text is" in result["reason"]
    assert len(registry.models("tiny")) == 1
    assert left(settings) == []


@pytest.mark.parametrize(("version", "reason"), [(7, "no version 7"), (2, "is quantized already")])
def test_only_registered_versions_are_quantized(settings, registry, version, reason):
    record = add(registry, "/m")
    registry.register_model(replace(record, scheme="int8", source_version=1))
    assert reason in quantization(settings, registry, version=version).run()["reason"]


def test_a_disk_that_is_full_is_told(settings, registry, tiny_model):
    add(registry, tiny_model)
    settings.home.mkdir(exist_ok=True)
    settings.registry_folder.write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):  # the run waits
        quantization(settings, registry).run()
    assert len(registry.models("tiny")) == 1
