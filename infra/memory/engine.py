"""The in-memory twin of an inference engine: its text depends on the prompt and the adapter."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import AdapterMissing, EngineCrashed
from schemas.generation import ChatMessage, Generation, GenerationRequest

_TOKENS_OF_A_MESSAGE = 4
_ANSWER_WORDS = 12


class MemoryEngine:
    """Answers ``<base model or adapter>`` and some words that depend on the prompt.

    ``crash_on``: the engine crashes on a prompt that contains this text. ``calls``: the requests of each call.
    ``loads``: how many adapters were loaded.
    """

    def __init__(self, *, base_model: str = "memory", window: int = 2048, crash_on: str | None = None) -> None:
        self._base_model, self._window = base_model, window
        self._adapters: frozenset[str] = frozenset()
        self._lock = threading.Lock()
        self.crash_on = crash_on
        self.calls: list[tuple[GenerationRequest, ...]] = []
        self.loads = 0

    @property
    def name(self) -> str:
        return "memory"

    @property
    def signature(self) -> str:
        return "memory"

    @property
    def base_model(self) -> str:
        return self._base_model

    @property
    def window(self) -> int:
        return self._window

    @property
    def adapters(self) -> frozenset[str]:
        return self._adapters

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        return sum(_TOKENS_OF_A_MESSAGE + len(message.content.split()) for message in messages)

    def set_adapters(self, adapters: dict[str, Path]) -> None:
        with self._lock:
            for adapter_id in sorted(adapters.keys() - self._adapters):
                if not (adapters[adapter_id] / "adapter_config.json").is_file():
                    raise AdapterMissing(f"{adapter_id} has no adapter_config.json: train it again")
            self.loads += len(adapters.keys() - self._adapters)
            self._adapters = frozenset(adapters)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        with self._lock:
            self.calls.append(tuple(requests))
            for request in requests:
                self._check_loaded(request.adapter_id)
            texts = [message.content for request in requests for message in request.messages]
            if self.crash_on is not None and any(self.crash_on in text for text in texts):
                raise EngineCrashed(f"the engine died on {len(requests)} prompts: it is tried with fewer at a time")
            return [self._generate(request) for request in requests]

    def loss(self, texts: Sequence[str], adapter_id: str | None = None) -> float:
        """Depends on the texts; an adapter adds a little."""
        with self._lock:
            self._check_loaded(adapter_id)
        digest = hashlib.sha256(repr((texts, adapter_id)).encode()).digest()
        return 3.0 + (0.0 if adapter_id is None else digest[0] / 2560)

    def divergence(self, exchanges: Sequence[tuple[Sequence[ChatMessage], str]], adapter_id: str) -> float:
        """Depends on the exchanges and the adapter."""
        with self._lock:
            self._check_loaded(adapter_id)
        return hashlib.sha256(repr((exchanges, adapter_id)).encode()).digest()[0] / 256

    def _check_loaded(self, adapter_id: str | None) -> None:
        if adapter_id is not None and adapter_id not in self._adapters:
            raise AdapterMissing(f"{adapter_id} is not loaded: release it, or roll back")

    def _generate(self, request: GenerationRequest) -> Generation:
        words = [request.adapter_id or self._base_model, *_words(request)]
        kept = words[: request.max_tokens]
        return Generation(
            text=" ".join(kept),
            prompt_tokens=min(self.count_tokens(request.messages), self._window),
            completion_tokens=len(kept),
            finish_reason="stop" if len(kept) == len(words) else "length",
        )


def _words(request: GenerationRequest) -> list[str]:
    """Returns words that depend on the prompt and, with a temperature, on the seed."""
    chance = request.seed if request.temperature > 0 else None
    digest = hashlib.sha256(repr((request.messages, chance)).encode()).hexdigest()
    return [digest[start : start + 5] for start in range(0, 5 * (_ANSWER_WORDS - 1), 5)]
