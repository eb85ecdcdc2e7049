"""Builds the quantizer's worker, and the parts of a quantization in its child process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from agents.delivery.worker import RunKind, Worker
from agents.quantizer import AGENT
from agents.quantizer.agent import KIND, Quantizer
from agents.quantizer.ports import ModelFigures
from agents.quantizer.work import QuantizationRun
from agents.validator.evaluation import general_texts
from agents.wiring.runs import settings_location, settings_of
from infra.models.loading import other_model
from infra.models.quantization import Figures, measure, quantize, weight_bytes
from infra.settings import Settings
from schemas.event import JsonObject
from schemas.topics import read_by

log = structlog.get_logger()


def build(settings: Settings) -> Worker:
    """Builds a worker that loads nothing."""
    quantizer = Quantizer(
        schemes=settings.quantizer.schemes,
        settings_location=settings_location(settings),
        notice=lambda about: log.warning("not quantized", **about),
    )
    kind = RunKind(
        name=KIND, entry="agents.wiring.quantizer:quantize_model", done=quantizer.done, failed=quantizer.failed
    )
    return Worker(agent=AGENT, topics=read_by(AGENT), handlers=quantizer.handlers(), runs=(kind,))


def quantize_model(arguments: JsonObject, folder: Path) -> JsonObject:
    """Quantizes a model. ``arguments``: config, name, version, scheme. ``folder``: ``<home>/work/runs/<run id>``."""
    from infra.registry.mlflow import MlflowRegistry

    settings = settings_of(arguments, folder)
    run = QuantizationRun(
        name=arguments["name"],
        version=arguments["version"],
        scheme=arguments["scheme"],
        folder=folder,
        models_folder=settings.registry_folder / "models",
        registry=MlflowRegistry(settings.registry_url(), settings.registry_folder),
        quantization=BitsandbytesQuantization(settings, general_texts()),
        policy=settings.quantizer,
    )
    return run.run()


class BitsandbytesQuantization:
    """Quantizes with bitsandbytes, and measures losses on the given texts."""

    def __init__(self, settings: Settings, texts: Sequence[str]) -> None:
        self._settings, self._texts = settings, texts

    def locate(self, location: str) -> Path:
        return other_model(self._settings, location)

    def weight_bytes(self, folder: Path) -> int:
        return weight_bytes(folder)

    def measure(self, folder: Path) -> Figures:
        return measure(folder, self._texts)

    def quantize(self, source: Path, target: Path, scheme: str, accept: Callable[[ModelFigures], None]) -> Figures:
        return quantize(source, target, scheme, self._texts, accept)
