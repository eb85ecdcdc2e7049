"""A quantized model on disk is smaller, reads about as well as its source, and says something; or it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.models.loading import load_base_model, prepare
from infra.models.quantization import FIGURES, Figures, measure, quantize, weight_bytes
from schemas.errors import ModelMissing
from schemas.policies import ModelSettings

TEXTS = (
    "The hammer is among the oldest of tools, and it began as nothing more than a stone held in the fist.",
    "Rain begins long before the first drop falls, when warm air carries water that nobody can see.",
)


def take(_figures: Figures) -> None:
    """Accepts whatever comes."""


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture(scope="module")
def base(model_settings) -> Path:
    return prepare(model_settings)


@pytest.fixture(scope="module")
def source(base) -> Figures:
    return measure(base, TEXTS)


@pytest.mark.parametrize(("scheme", "share", "rise"), [("int8", 0.45, 0.15), ("nf4", 0.35, 0.5)])
def test_the_base_model_is_quantized_read_back_and_can_be_served(
    base, source, model_settings, tmp_path, scheme, share, rise
):
    target = tmp_path / "models" / f"1-{scheme}"
    figures = quantize(base, target, scheme, TEXTS, take)
    assert figures.size_bytes == weight_bytes(target) < share * source.size_bytes
    assert source.loss < figures.loss < source.loss + rise
    assert figures.sample.strip()
    assert json.loads((target / FIGURES).read_text())["loss"] == figures.loss
    assert not [each for each in target.iterdir() if each.suffix in (".bin", ".pt", ".pkl")]
    settings = model_settings.model_copy(update={"model": ModelSettings(base=str(target), threads=1)})
    model, tokenizer = load_base_model(settings)
    assert tokenizer.chat_template
    assert model.config.quantization_config is not None


@pytest.mark.parametrize("scheme", ["int8", "nf4"])
def test_quantizing_twice_is_quantizing_once(tiny_model, tmp_path, scheme):
    target = tmp_path / "models" / scheme
    figures = quantize(tiny_model, target, scheme, TEXTS, take)
    before = (target / "model.safetensors").stat().st_mtime_ns
    assert quantize(tiny_model, target, scheme, TEXTS, take) == figures
    assert (target / "model.safetensors").stat().st_mtime_ns == before
    assert names(tmp_path / "models") == [scheme]


def test_the_figures_are_those_of_what_lies_on_disk(tiny_model, tmp_path):
    target = tmp_path / "nf4"
    figures = quantize(tiny_model, target, "nf4", TEXTS, take)
    assert measure(target, TEXTS).loss == pytest.approx(figures.loss, abs=1e-4)


def test_what_is_not_accepted_leaves_nothing(tiny_model, tmp_path):
    def refuse(_figures: Figures) -> None:
        raise ValueError("no good")

    with pytest.raises(ValueError, match="no good"):
        quantize(tiny_model, tmp_path / "models" / "int8", "int8", TEXTS, refuse)
    assert names(tmp_path / "models") == []


def test_what_is_no_model_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissing, match="does not load as a causal language model"):
        quantize(tmp_path / "empty", tmp_path / "models" / "int8", "int8", TEXTS, take)
    assert names(tmp_path / "models") == []
