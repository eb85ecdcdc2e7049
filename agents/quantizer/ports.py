"""What a quantization needs of the world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from schemas.registry import ModelRecord

Notice = Callable[[Mapping[str, str]], None]
"""Writes a line for whoever runs the worker."""


class ModelRegistry(Protocol):
    """Versions of base models; raises Unavailable."""

    def models(self, name: str | None = None) -> list[ModelRecord]: ...

    def register_model(self, record: ModelRecord) -> ModelRecord:
        """Gives the record with its version; the one of the same name, scheme and location, if there is one."""
        ...
