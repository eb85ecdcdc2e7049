"""Which quantized forms of a model are wanted, and whether one that was made is sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.registry import ModelRecord


@dataclass(frozen=True, kw_only=True)
class SoundnessPolicy:
    """``max_rise_nats``: the loss on general text may rise by this over the source's, nats per token."""

    max_rise_nats: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a quantization. ``sample``: what the reloaded model said to a prompt. Losses in nats per token."""

    size_bytes: int
    loss: float
    source_size_bytes: int
    source_loss: float
    sample: str


def source_of(records: Sequence[ModelRecord], version: int) -> ModelRecord | str:
    """The version to quantize, or why it cannot be."""
    record = next((each for each in records if each.version == version), None)
    if record is None:
        return f"the registry has no version {version} of it: add the model with 'everlearn models add'"
    if record.scheme is not None:
        return f"version {version} is quantized already ({record.scheme}): name the version that it was made from"
    return record


def existing(records: Sequence[ModelRecord], version: int, scheme: str) -> ModelRecord | None:
    """The quantized form of that version that the registry has."""
    return next((each for each in records if (each.source_version, each.scheme) == (version, scheme)), None)


def fault(measured: Measured, policy: SoundnessPolicy) -> str | None:
    """What is wrong with a quantized model, or None: it must be smaller, read about as well, and say something."""
    if not math.isfinite(measured.loss):
        return "its loss on general text is no number"
    if measured.loss > measured.source_loss + policy.max_rise_nats:
        return (
            f"its loss on general text is {measured.loss:.2f} nats per token, the source's {measured.source_loss:.2f}: "
            f"more than {policy.max_rise_nats:g} is lost"
        )
    if not measured.sample.strip():
        return "it says nothing once it is loaded again"
    if measured.size_bytes >= measured.source_size_bytes:
        return f"it has {measured.size_bytes:,} bytes, the source {measured.source_size_bytes:,}: nothing is gained"
    return None
