"""Says which schemes there are, which version of a model can be quantized, and whether the result is sound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.policies import QuantizerPolicy
from schemas.registry import ModelRecord


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A quantized model beside its source. Losses are in nats per token. ``sample``: how it continued a prompt."""

    size_bytes: int
    loss: float
    source_size_bytes: int
    source_loss: float
    sample: str


def source_of(records: Sequence[ModelRecord], version: int) -> ModelRecord | str:
    """Returns the version to quantize, or the reason why it cannot be quantized."""
    record = next((each for each in records if each.version == version), None)
    if record is None:
        return f"the registry has no version {version} of it: add the model with 'everlearn models add'"
    if record.scheme is not None:
        return f"version {version} is quantized already ({record.scheme}): name the version that it was made from"
    return record


def existing(records: Sequence[ModelRecord], version: int, scheme: str) -> ModelRecord | None:
    """Returns the model that the registry has of that version and scheme."""
    return next((each for each in records if (each.source_version, each.scheme) == (version, scheme)), None)


def reason_to_refuse(measured: Measured, policy: QuantizerPolicy) -> str | None:
    """Returns what is wrong with a quantized model, or None.

    A sound one is smaller, its loss is about the same, and it generates text.
    """
    if not math.isfinite(measured.source_loss):
        return "the source's own loss on general text is not a number: add a sound model"
    if not math.isfinite(measured.loss):
        return "its loss on general text is not a number"
    if measured.loss > measured.source_loss + policy.max_loss_rise:
        return (
            f"its loss on general text is {measured.loss:.2f} nats per token, the source's {measured.source_loss:.2f}: "
            f"the rise is more than {policy.max_loss_rise:g}"
        )
    if not measured.sample.strip():
        return "it generates no text after it is loaded again"
    if measured.size_bytes >= measured.source_size_bytes:
        return f"it has {measured.size_bytes:,} bytes, the source {measured.source_size_bytes:,}: it is not smaller"
    return None
