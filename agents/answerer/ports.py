"""What the answerer needs: a search, an inference engine, and the adapters on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from schemas.generation import ChatMessage, Generation, GenerationRequest
from schemas.registry import Probe
from schemas.retrieval import Hit, Search


class Retriever(Protocol):
    """Searches documents."""

    def search(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """Returns the hits of each search, best first, of current versions and of the search's tenant only.

        Raises Unavailable.
        """
        ...


class Engine(Protocol):
    """An inference engine with LoRA adapters."""

    @property
    def name(self) -> str: ...

    @property
    def signature(self) -> str:
        """Names the engine and its precision. Equal signatures guarantee the same text for the same request."""
        ...

    @property
    def base_model(self) -> str: ...

    @property
    def window(self) -> int:
        """The most tokens that prompt and answer may have together."""
        ...

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """Counts the tokens of a chat prompt."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Returns one generation for each request, in order. Requests may use different adapters.

        Raises EngineCrashed or Unavailable.
        """
        ...

    def set_adapters(self, adapters: dict[str, Path]) -> None:
        """Makes exactly these adapters available, by id. If it raises AdapterMissing, it keeps those it had."""
        ...


class AdapterStore(Protocol):
    """Adapters on disk."""

    def path(self, adapter_id: str) -> Path:
        """Returns the folder of an adapter in PEFT's format. Raises AdapterMissing."""
        ...

    def verify(self, adapter_id: str) -> None:
        """Raises AdapterMissing unless the folder holds exactly what the id was made from."""
        ...

    def probes(self, adapter_id: str) -> tuple[Probe, ...]:
        """Returns what the adapter answered when it was validated; empty if it never was. Raises AdapterMissing."""
        ...
