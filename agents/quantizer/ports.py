"""What the quantizer needs from outside: the registry, and a library that quantizes models on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from schemas.registry import ModelRecord

Notice = Callable[[Mapping[str, str]], None]
"""Writes a line into the worker's log."""


class ModelRegistry(Protocol):
    """The registry of base models. Each method raises Unavailable when it cannot be reached."""

    def models(self, name: str | None = None) -> list[ModelRecord]:
        """Returns the versions of a model, or of all models, newest first."""
        ...

    def register_model(self, record: ModelRecord) -> ModelRecord:
        """Returns the record with its version. A record of the same name, scheme and location is registered once."""
        ...


class ModelFigures(Protocol):
    """What was measured on a model that was loaded from disk."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def loss(self) -> float:
        """The mean cross-entropy on general text, in nats per token."""
        ...

    @property
    def sample(self) -> str:
        """How the model continued a prompt."""
        ...


class Quantization(Protocol):
    """Quantizes models on disk, and measures them. Raises ModelMissing for a model that does not load."""

    def locate(self, location: str) -> Path:
        """Returns the folder of a model by its name or path."""
        ...

    def weight_bytes(self, folder: Path) -> int: ...

    def measure(self, folder: Path) -> ModelFigures: ...

    def quantize(self, source: Path, target: Path, scheme: str, accept: Callable[[ModelFigures], None]) -> ModelFigures:
        """Writes a quantized model, loads it again, measures it, and calls ``accept`` with the figures.

        If ``accept`` raises, nothing is left on disk. If the target exists, its figures are returned. Raises
        Unavailable when the disk is full.
        """
        ...
