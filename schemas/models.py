"""Base models and their quantized forms in the registry."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from schemas.event import Event, Identifier


class ModelRegistered(Event):
    """A base model became a version in the registry."""

    type: ClassVar[str] = "everlearn.model.registered.v1"
    name: Identifier
    version: str
    scheme: str | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    quantize: tuple[str, ...] | None = None
    """Schemes that are wanted of it, int8 or nf4; None for those that the quantizer is configured with."""

    @property
    def key(self) -> str:
        return self.name


class ModelQuantized(Event):
    """A quantized form of a model became a version in the registry."""

    type: ClassVar[str] = "everlearn.model.quantized.v1"
    name: Identifier
    version: str
    scheme: str
    size_bytes: int = Field(ge=0)
    source_version: str
    source_size_bytes: int = Field(ge=0)
    loss: float | None = None
    source_loss: float | None = None

    @property
    def key(self) -> str:
        return self.name
