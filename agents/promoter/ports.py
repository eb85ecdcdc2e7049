"""What the promoter needs: release states, counts of their results, and the registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from schemas.datasets import DatasetManifest
from schemas.registry import AdapterRecord
from schemas.release_state import ArmCounts, Release, ReleaseChange


class Releases(Protocol):
    """The release state of each task. Methods that change it run inside a transaction."""

    def lock(self, tasks: Iterable[str]) -> None:
        """Locks these tasks' releases until the transaction ends."""
        ...

    def current(self, task: str) -> Release:
        """Returns the state and locks it until the transaction ends. Sequence 0 if nothing was released yet."""
        ...

    def all(self) -> list[Release]:
        """Returns the states of all tasks that have one, without locks."""
        ...

    def change(self, release: Release, *, event_type: str, cause: str | None, at: datetime) -> None:
        """Stores the next state and a line of the history. Raises Unavailable when another promoter was first."""
        ...

    def amend(self, release: Release) -> None:
        """Changes a detail of the current state that needs no event."""
        ...


class History(Protocol):
    """The history of the release states."""

    def history(self, task: str, limit: int | None = None) -> Sequence[ReleaseChange]:
        """Returns the changes of a task, newest first."""
        ...


class Counts(Protocol):
    """How the answers of the releases turned out."""

    def counts(self, task: str, *, sequence: int) -> Sequence[ArmCounts]:
        """Returns the numbers of results by release and arm, from this sequence on."""
        ...


class ReleaseStore(Releases, History, Counts, Protocol):
    """Everything that the promoter stores in SQL."""


class AdapterLookup(Protocol):
    """Finds adapters in the registry."""

    def find(self, adapter_id: str) -> AdapterRecord | None:
        """Raises Unavailable when the registry cannot be reached."""
        ...


class Aliases(Protocol):
    """The registry's aliases of released adapters."""

    def set_aliases(self, task: str, *, champion: str | None, challenger: str | None) -> None:
        """Sets the aliases to these adapter ids, and removes the alias that is None.

        Raises Unavailable, or AdapterMissing for an unknown adapter.
        """
        ...


class KeptTallies(Protocol):
    """How the answers of releases turned out."""

    def prune_tallies(self, task: str, *, below: int) -> int:
        """Deletes the tallies of releases below a sequence of which no answer is left; returns how many."""
        ...


class KeptReleases(Releases, History, KeptTallies, Protocol):
    """The release states and their history, of which old lines may go."""

    def prune_history(self, task: str, *, below: int, before: datetime) -> int:
        """Deletes the changes below a sequence that were made before a time; returns how many."""
        ...


class KeptAdapters(Protocol):
    """The registry, of which old entries may go. Each method raises Unavailable."""

    def adapters(self, task: str | None = None) -> list[AdapterRecord]:
        """Returns the adapters of a task or of all, newest first."""
        ...

    def mark_removed(self, adapter_id: str, at: datetime | None) -> None:
        """Notes that the files of an adapter may go, or with None that they are kept."""
        ...

    def forget(self, adapter_id: str) -> None:
        """Deletes the entry of an adapter, unless an alias points to it."""
        ...


class AdapterFolders(Protocol):
    """The folder of adapters."""

    def ids(self) -> list[str]: ...

    def remove(self, adapter_id: str) -> bool:
        """Deletes an adapter's files. Returns False where there are none. Raises Unavailable."""
        ...


class KeptDatasets(Protocol):
    """The datasets."""

    def older(self, before: datetime) -> list[DatasetManifest]:
        """Returns those that were made before then, oldest first."""
        ...

    def remove(self, dataset_id: str) -> None:
        """Inside a transaction: deletes a dataset. Raises Unavailable."""
        ...


class Log(Protocol):
    """Logs an event with its fields, as structlog does."""

    def __call__(self, event: str, **fields: object) -> object: ...
