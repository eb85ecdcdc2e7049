"""Values that pass between an answerer and an inference engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ChatMessage:
    """One message of a chat prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """What an engine is asked for: a chat prompt, an adapter or None for the base model, and limits."""

    messages: tuple[ChatMessage, ...]
    adapter_id: str | None = None
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What an engine produced: text, token counts, and whether it ended by itself."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Literal["stop", "length"]
