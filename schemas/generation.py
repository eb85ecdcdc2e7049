"""Requests to an inference engine, and what it generates."""

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
    """A request to an engine: a chat prompt, an adapter (None for the base model) and limits."""

    messages: tuple[ChatMessage, ...]
    adapter_id: str | None = None
    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What an engine generated: text, token counts, and whether the text ended or reached the limit."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: Literal["stop", "length"]
