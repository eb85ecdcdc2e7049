"""Events about base models and their quantized forms in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from schemas.event import Event, Identifier

SCHEMES = ("int8", "nf4")
"""int8: LLM.int8() (Dettmers et al., 2022); nf4: 4-bit NormalFloat (QLoRA, Dettmers et al., 2023)."""


class ModelRegistered(Event):
    """A base model was added to the registry as a new version."""

    type: ClassVar[str] = "everlearn.model.registered.v1"
    name: Identifier
    version: str
    scheme: str | None = None
    size_bytes: int | None = Field(default=None, ge=0)
    quantize: tuple[str, ...] | None = None
    """The schemes to quantize it with, int8 or nf4. None: the schemes that the quantizer is configured with."""

    @property
    def key(self) -> str:
        return self.name


class ModelQuantized(Event):
    """A quantized form of a model was added to the registry as a new version."""

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


def unknown_schemes(schemes: Sequence[str]) -> str | None:
    """Returns a message that names the unknown schemes and the known ones; None if all are known."""
    unknown = [scheme for scheme in schemes if scheme not in SCHEMES]
    return f"there is no scheme {', '.join(unknown)}: choose from {', '.join(SCHEMES)}" if unknown else None
