"""A quantization, in a child process: the source from the registry, made smaller, read back, judged, registered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog

from agents.delivery.progress import write_progress
from agents.quantizer.ports import ModelRegistry
from agents.quantizer.schemes import Measured, SoundnessPolicy, existing, fault, source_of
from agents.wiring.children import general_texts, patiently, settings_of
from infra.models.loading import other_model
from infra.models.quantization import Figures, measure, quantize, weight_bytes
from infra.settings import Settings
from schemas.errors import ConfigurationError, Unavailable
from schemas.models import ModelQuantized
from schemas.registry import ModelRecord

log = structlog.get_logger()
T = TypeVar("T")


class Refused(Exception):
    """There will be no quantized model; the message says why."""


def run(arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
    """``arguments``: config, name, version, scheme. ``folder``: ``<home>/work/runs/<run id>``.

    Gives ``{"quantized": …}``, the fields of ModelQuantized, or ``{"reason": …}`` where there is nothing new.
    """
    from infra.registry.mlflow import MlflowRegistry

    settings = settings_of(arguments, folder)
    registry = MlflowRegistry(settings.registry_url(), settings.registry_folder)
    return Quantization(settings, arguments, folder, registry, general_texts()).run()


class Quantization:
    """One model, one scheme."""

    def __init__(
        self,
        settings: Settings,
        arguments: dict[str, Any],
        folder: Path,
        registry: ModelRegistry,
        texts: Sequence[str],
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._folder, self._registry, self._texts = settings, folder, registry, texts
        self._name: str = arguments["name"]
        self._version: int = arguments["version"]
        self._scheme: str = arguments["scheme"]
        self._sleep = sleep

    def run(self) -> dict[str, Any]:
        """What came of it. Nothing is registered, and nothing left on disk, unless the quantized model is sound."""
        try:
            source = self._source()
            measured, target = self._quantize(source)
        except (Refused, ConfigurationError, Unavailable) as error:
            return {"reason": str(error)}
        write_progress(self._folder, 0.95, "registering")
        record = ModelRecord(
            name=self._name,
            location=str(target),
            size_bytes=measured.size_bytes,
            created_at=datetime.now(UTC),
            scheme=self._scheme,
            loss=measured.loss,
            source_version=source.version,
        )
        registered = self._patiently(lambda: self._registry.register_model(record))
        event = ModelQuantized(
            name=self._name,
            version=str(registered.version),
            scheme=self._scheme,
            size_bytes=measured.size_bytes,
            source_version=str(source.version),
            source_size_bytes=measured.source_size_bytes,
            loss=measured.loss,
            source_loss=measured.source_loss,
        )
        return {"quantized": event.model_dump(mode="json"), "location": str(target), "sample": measured.sample}

    def _source(self) -> ModelRecord:
        write_progress(self._folder, 0.02, "looking into the registry")
        records = self._patiently(lambda: self._registry.models(self._name))
        source = source_of(records, self._version)
        if isinstance(source, str):
            raise Refused(f"{self._name} cannot be quantized: {source}")
        there = existing(records, self._version, self._scheme)
        # what an earlier attempt of this very run registered still has to be told of
        if there is not None and not self._kept.is_file():
            raise Refused(f"{self._name} is there as {self._scheme} already: version {there.version}")
        return source

    def _quantize(self, source: ModelRecord) -> tuple[Measured, Path]:
        target = self._settings.registry_folder / "models" / self._name / f"{source.version}-{self._scheme}"
        if self._kept.is_file() and target.is_dir():
            return Measured(**json.loads(self._kept.read_text())), target
        write_progress(self._folder, 0.05, "reading the model as it is")
        folder = other_model(self._settings, source.location)
        size = weight_bytes(folder)
        loss = source.loss if source.loss is not None else measure(folder, self._texts).loss
        write_progress(self._folder, 0.35, f"quantizing to {self._scheme}, and reading that back")

        def accept(figures: Figures) -> None:
            measured = Measured(**asdict(figures), source_size_bytes=size, source_loss=loss)
            reason = fault(measured, SoundnessPolicy(max_rise_nats=self._settings.quantizer.max_loss_rise))
            if reason is not None:
                raise Refused(f"{self._name} as {self._scheme} is no good: {reason}")

        figures = quantize(folder, target, self._scheme, self._texts, accept)
        measured = Measured(**asdict(figures), source_size_bytes=size, source_loss=loss)
        self._kept.write_text(json.dumps(asdict(measured)))
        return measured, target

    @property
    def _kept(self) -> Path:
        return self._folder / "measured.json"

    def _patiently(self, action: Callable[[], T]) -> T:
        return patiently(action, self._sleep)
