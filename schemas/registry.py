"""What the registry keeps: versions of adapters and of models, each with where it came from and how it was judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from schemas.generation import ChatMessage

AdapterState = Literal["trained", "validated", "rejected"]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A prompt, and what the adapter said to it when it was validated: greedy, at most ``max_tokens`` tokens.

    ``engine``: what it was said by, with its precision; another may round otherwise and end with another word.
    """

    messages: tuple[ChatMessage, ...]
    output: str
    max_tokens: int = 16
    engine: str = ""


@dataclass(frozen=True, kw_only=True)
class AdapterRecord:
    """A version of a task's adapter. ``adapter_id`` is the hash of its content; ``version`` counts from 1 in its task.

    ``cause``: the event id of the drift or request that the training run answered. ``scores`` and ``reasons``: the
    validator's. ``aliases``: ``champion`` or ``challenger`` while it is.
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
    """Of the training: loss, seconds, tokens."""


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A version of a base model. ``scheme``: None for the model as it came, else int8, nf4, ….

    ``location``: a folder, or the name by which the model was added. ``loss``: mean cross-entropy on general text,
    nats per token. ``source_version``: the version that it was quantized from.
    """

    name: str
    location: str
    size_bytes: int
    created_at: datetime
    version: int = 0
    scheme: str | None = None
    loss: float | None = None
    source_version: int | None = None
