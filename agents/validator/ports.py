"""What the validator needs from outside: an engine, adapters on disk, datasets, the retention suite, the registry."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from schemas.datasets import DatasetManifest, DatasetRow
from schemas.drift import StoredReport
from schemas.generation import ChatMessage, Generation, GenerationRequest
from schemas.registry import AdapterRecord, AdapterState, Probe
from schemas.tasks import TaskFingerprint

WriteReport = Callable[[Mapping[str, object]], str]
"""Writes the report on a validation and returns its URI. Raises Unavailable when the disk is full."""

Reject = Callable[[str, Sequence[str]], None]
"""Writes into the registry that an adapter is rejected for these reasons. Raises Unavailable."""

CachedLoss = Callable[[str, Callable[[], float]], float]
"""Returns a loss by the key of what it was computed from, and computes it if it is not known yet."""


class EvaluationEngine(Protocol):
    """The engine that serves, in the validator's own process: it loads adapters, answers, and measures losses."""

    @property
    def signature(self) -> str:
        """Names the engine and its precision. Equal signatures guarantee the same text for the same request."""
        ...

    @property
    def window(self) -> int:
        """The most tokens that a prompt and its answer may have together."""
        ...

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int: ...

    def set_adapters(self, adapters: dict[str, Path]) -> None:
        """Loads these adapters and drops all others. Raises AdapterMissing for one that does not fit the model."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Returns one generation for each request, in order. The requests may name different adapters.

        Raises EngineCrashed or Unavailable.
        """
        ...

    def loss(self, texts: Sequence[str], adapter_id: str | None = None) -> float:
        """Returns the mean cross-entropy of plain texts, in nats per token."""
        ...

    def divergence(self, exchanges: Sequence[tuple[Sequence[ChatMessage], str]], adapter_id: str) -> float:
        """Returns KL(base || adapter) in nats per token. An exchange is a prompt with the base model's answer.

        It is the mean, over every token of the answers and the one that follows each answer, of how far what the
        adapter expects there is from what the base model expects. Raises EngineCrashed, or ValueError without
        exchanges.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """The base model that serves, loaded into an engine."""

    engine: EvaluationEngine
    revision: str
    """The hash of the base model's content."""
    check: Callable[[str], None]
    """Raises AdapterMissing for the id of an adapter that was trained on another revision or chat template."""


class AdapterFiles(Protocol):
    """The folder of adapters, and the checks of their files. Every method may raise AdapterMissing."""

    def path(self, adapter_id: str) -> Path: ...

    def check(self, adapter_id: str, task: str) -> None:
        """Checks that the content has this id, is safe to read, is of the task and base model, and is not too large.

        AdapterMissing names the first fault.
        """
        ...

    def write_probes(self, adapter_id: str, probes: Sequence[Probe]) -> None:
        """Puts the probes beside the adapter. Raises Unavailable when the disk is full."""
        ...


class RetentionSuite(Protocol):
    """The held-out rows of every adapter that was accepted, by task."""

    def add(self, task: str, rows: Sequence[DatasetRow], dataset_id: str, at: datetime) -> None:
        """Adds rows inside a transaction. Adding a row twice has no further effect."""
        ...

    def rows(self, task: str, limit: int) -> list[DatasetRow]:
        """Returns at most ``limit`` rows of a task: a fair sample, which is the same each time."""
        ...


class AdapterLookup(Protocol):
    """Finds adapters in the registry."""

    def find(self, adapter_id: str) -> AdapterRecord | None:
        """Raises Unavailable when the registry cannot be reached."""
        ...


class Registry(AdapterLookup, Protocol):
    """The registry of adapters. Each method raises Unavailable when it cannot be reached."""

    def judge(
        self,
        adapter_id: str,
        *,
        state: AdapterState,
        scores: dict[str, float],
        reasons: Sequence[str],
        report_uri: str | None,
        validated_as: TaskFingerprint | None = None,
    ) -> None:
        """Stores a verdict, and the task that an accepted adapter was validated on.

        Raises AdapterMissing when the adapter is not registered.
        """
        ...


class Datasets(Protocol):
    """The snapshots that adapters are trained and judged on."""

    def manifest(self, dataset_id: str) -> DatasetManifest | None: ...

    def rows(self, dataset_id: str) -> list[DatasetRow]:
        """Raises AdapterMissing when the rows are gone or were changed."""
        ...


class ReportFiles(Protocol):
    """The reports on this machine."""

    def older(self, before: datetime) -> list[StoredReport]:
        """Returns the reports that were written before then."""
        ...

    def remove(self, report: StoredReport) -> bool:
        """Deletes a report. Returns False, and logs the reason, where that fails."""
        ...
