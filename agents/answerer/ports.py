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
        """The hits of each, best first: of current versions and of the search's tenant only. Raises Unavailable."""
        ...


class Engine(Protocol):
    """An inference engine with LoRA adapters."""

    @property
    def name(self) -> str: ...

    @property
    def signature(self) -> str:
        """What must be the same for the same request to give the same text for certain."""
        ...

    @property
    def base_model(self) -> str: ...

    @property
    def window(self) -> int:
        """The most tokens that prompt and answer may have together."""
        ...

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        """How long a chat prompt is for this model."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """One generation a request, in order; adapters may be mixed. Raises EngineCrashed or Unavailable."""
        ...

    def set_adapters(self, adapters: dict[str, Path]) -> None:
        """Makes exactly these adapters available, by id; raises AdapterMissing, and then keeps what it had."""
        ...


class AdapterStore(Protocol):
    """Adapters on disk."""

    def path(self, adapter_id: str) -> Path:
        """The folder of an adapter in PEFT's format; raises AdapterMissing."""
        ...

    def verify(self, adapter_id: str) -> None:
        """Raises AdapterMissing unless the folder holds exactly what the id was made from."""
        ...

    def probes(self, adapter_id: str) -> tuple[Probe, ...]:
        """What the adapter said when it was validated; empty when it never was. Raises AdapterMissing."""
        ...
