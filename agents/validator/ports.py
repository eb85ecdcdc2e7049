"""What the validator needs: an engine to ask, the rows that must not be forgotten, and what was judged before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from schemas.datasets import DatasetManifest, DatasetRow
from schemas.delivery import Run
from schemas.generation import ChatMessage, Generation, GenerationRequest
from schemas.registry import AdapterRecord, AdapterState


class Engine(Protocol):
    """The inference engine that serves, with the adapters of the examination loaded."""

    @property
    def signature(self) -> str:
        """What must be the same for the same request to give the same text for certain."""
        ...

    @property
    def window(self) -> int:
        """The most tokens that prompt and answer may have together."""
        ...

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int: ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """One generation a request, in order; adapters may be mixed. Raises EngineCrashed or Unavailable."""
        ...

    def loss(self, texts: Sequence[str], adapter_id: str | None = None) -> float:
        """Mean cross-entropy of plain texts, nats per token."""
        ...


class Retention(Protocol):
    """The held-out rows of validated adapters, by task."""

    def add(self, task: str, rows: Sequence[DatasetRow], dataset_id: str, at: datetime) -> None:
        """Inside a transaction. Adding a row twice is adding it once."""
        ...


class Runs(Protocol):
    """The runs that were asked for before."""

    def of_task(self, agent: str, task: str, limit: int) -> list[Run]:
        """An agent's runs whose arguments name the task, newest first."""
        ...


class Judge(Protocol):
    """Writes a verdict into the registry."""

    def __call__(self, adapter_id: str, reasons: Sequence[str]) -> None:
        """The adapter is rejected for these reasons. Raises Unavailable."""
        ...


class Registry(Protocol):
    """Where adapters come from, and where the verdict goes."""

    def find(self, adapter_id: str) -> AdapterRecord | None: ...

    def judge(
        self, adapter_id: str, *, state: AdapterState, scores: dict[str, float], reasons: tuple[str, ...],
        report_uri: str | None,
    ) -> None: ...  # fmt: skip


class Datasets(Protocol):
    """The snapshots that adapters are trained and judged on."""

    def manifest(self, dataset_id: str) -> DatasetManifest | None: ...

    def rows(self, dataset_id: str) -> list[DatasetRow]: ...


class Suite(Protocol):
    """The held-out rows of validated adapters."""

    def rows(self, task: str, limit: int) -> list[DatasetRow]: ...


class ServingEngine(Engine, Protocol):
    """An engine that adapters can be loaded into."""

    def set_adapters(self, adapters: dict[str, Path]) -> None: ...
