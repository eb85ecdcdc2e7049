"""Does a quantization in a child process: finds the source, quantizes it, judges the result, and registers it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from agents.delivery.atomic_write import write_atomically
from agents.delivery.progress import write_progress
from agents.delivery.retrying import retry_while_unavailable
from agents.quantizer.ports import ModelFigures, ModelRegistry, Quantization
from agents.quantizer.schemes import Measured, existing, reason_to_refuse, source_of
from schemas.errors import ConfigurationError
from schemas.event import JsonObject
from schemas.models import ModelQuantized
from schemas.policies import QuantizerPolicy
from schemas.registry import ModelRecord

T = TypeVar("T")


class Refused(Exception):
    """There will be no quantized model. The message says why."""


@dataclass(frozen=True, kw_only=True)
class QuantizationRun:
    """One run: one model and one scheme. ``sleep`` gets seconds."""

    name: str
    version: int
    scheme: str
    folder: Path
    """The folder of the run. An interrupted run resumes from what is in it."""
    models_folder: Path
    """Where quantized models are kept."""
    registry: ModelRegistry
    quantization: Quantization
    policy: QuantizerPolicy
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> JsonObject:
        """Returns the fields of ModelQuantized as ``quantized``; or ``reason``, why there is no new model.

        Unless the quantized model is sound, nothing is registered and nothing is left on disk.
        """
        try:
            source = self._source()
            measured, target = self._quantize(source)
        except (Refused, ConfigurationError) as error:
            return {"reason": str(error)}
        write_progress(self.folder, 0.95, "registering")
        registered = self._register(source, measured, target)
        event = ModelQuantized(
            name=self.name,
            version=str(registered.version),
            scheme=self.scheme,
            size_bytes=measured.size_bytes,
            source_version=str(source.version),
            source_size_bytes=measured.source_size_bytes,
            loss=measured.loss,
            source_loss=measured.source_loss,
        )
        return {"quantized": event.model_dump(mode="json"), "location": str(target), "sample": measured.sample}

    def _source(self) -> ModelRecord:
        write_progress(self.folder, 0.02, "looking into the registry")
        records = self._retry(lambda: self.registry.models(self.name))
        source = source_of(records, self.version)
        if isinstance(source, str):
            raise Refused(f"{self.name} cannot be quantized: {source}")
        known = existing(records, self.version, self.scheme)
        # If an earlier attempt of this run registered the model, its event still has to be published.
        if known is not None and not self._measured_file.is_file():
            raise Refused(f"{self.name} is registered as {self.scheme} already: version {known.version}")
        return source

    def _quantize(self, source: ModelRecord) -> tuple[Measured, Path]:
        target = self.models_folder / self.name / f"{source.version}-{self.scheme}"
        if self._measured_file.is_file() and target.is_dir():
            return Measured(**json.loads(self._measured_file.read_text())), target
        write_progress(self.folder, 0.05, "reading the model as it is")
        source_folder = self.quantization.locate(source.location)
        source_size = self.quantization.weight_bytes(source_folder)
        source_loss = source.loss if source.loss is not None else self.quantization.measure(source_folder).loss
        write_progress(self.folder, 0.35, f"quantizing to {self.scheme}, and reading that back")

        def compared(figures: ModelFigures) -> Measured:
            return Measured(
                size_bytes=figures.size_bytes,
                loss=figures.loss,
                source_size_bytes=source_size,
                source_loss=source_loss,
                sample=figures.sample,
            )

        def accept(figures: ModelFigures) -> None:
            reason = reason_to_refuse(compared(figures), self.policy)
            if reason is not None:
                raise Refused(f"{self.name} as {self.scheme} failed its checks: {reason}")

        measured = compared(self.quantization.quantize(source_folder, target, self.scheme, accept))
        write_atomically(self._measured_file, json.dumps(asdict(measured)))
        return measured, target

    def _register(self, source: ModelRecord, measured: Measured, target: Path) -> ModelRecord:
        record = ModelRecord(
            name=self.name,
            location=str(target),
            size_bytes=measured.size_bytes,
            created_at=datetime.now(UTC),
            scheme=self.scheme,
            loss=measured.loss,
            source_version=source.version,
        )
        return self._retry(lambda: self.registry.register_model(record))

    @property
    def _measured_file(self) -> Path:
        return self.folder / "measured.json"

    def _retry(self, action: Callable[[], T]) -> T:
        return retry_while_unavailable(action, self.folder, self.sleep)
