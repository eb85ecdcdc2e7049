"""Entries of the registry: versions of adapters and models, each with its origin and its scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.generation import ChatMessage
from schemas.tasks import TaskFingerprint

AdapterState = Literal["trained", "validated", "rejected"]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A prompt and the adapter's output at validation, by greedy decoding of at most ``max_tokens`` tokens.

    ``engine``: the engine that generated the output, with its precision. Another engine may round differently and
    generate other words.
    """

    messages: tuple[ChatMessage, ...]
    output: str
    max_tokens: int = 16
    engine: str = ""


@dataclass(frozen=True, kw_only=True)
class AdapterRecord:
    """A version of a task's adapter. ``adapter_id`` is the hash of its content; ``version`` counts from 1 in its task.

    ``cause``: id of the drift or request event that started the training run. ``scores`` and ``reasons``: from the
    validator. ``aliases``: ``champion`` or ``challenger``, while the adapter is one. ``removed_at``: since when its
    files may be deleted; None while they are kept.
    """

    adapter_id: str
    task: str
    base_model: str
    dataset_id: str
    run_id: str
    size_bytes: int
    created_at: datetime
    version: int = 0
    cause: str | None = None
    state: AdapterState = "trained"
    scores: dict[str, float] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    report_uri: str | None = None
    aliases: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    """Metrics of the training: loss, seconds, tokens."""
    removed_at: datetime | None = None
    trained_as: TaskFingerprint | None = None
    """The task as the adapter was trained on it; None of an adapter from before there were fingerprints."""
    validated_as: TaskFingerprint | None = None
    """The task as it was last validated on."""

    @property
    def fingerprint(self) -> TaskFingerprint | None:
        """The task that the adapter is known to fit."""
        return self.validated_as or self.trained_as


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A version of a base model. ``scheme``: None for the model as it was added, otherwise int8, nf4, ….

    ``location``: a folder, or the name by which the model was added. ``loss``: mean cross-entropy on general text, in
    nats per token. ``source_version``: the version that this one was quantized from.
    """

    name: str
    location: str
    size_bytes: int
    created_at: datetime
    version: int = 0
    scheme: str | None = None
    loss: float | None = None
    source_version: int | None = None
