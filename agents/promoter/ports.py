"""What the promoter needs: the release state and counts of what came of it, and two looks at the registry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from schemas.registry import AdapterRecord
from schemas.release_state import ArmCounts, Release, ReleaseChange


class Releases(Protocol):
    """The release state of each task. What changes it runs inside a transaction."""

    def lock(self, tasks: Iterable[str]) -> None:
        """Keeps everybody else from changing these tasks' releases until the transaction ends."""
        ...

    def current(self, task: str) -> Release:
        """Sequence 0 where there was none yet; locked until the transaction ends."""
        ...

    def all(self) -> list[Release]:
        """Of every task that ever had one, locked by nobody."""
        ...

    def change(self, release: Release, *, event_type: str, cause: str | None, at: datetime) -> None:
        """The next state and a line of the history; raises Unavailable when somebody else was faster."""
        ...

    def amend(self, release: Release) -> None:
        """Notes something about the current state that nobody need be told of."""
        ...


class History(Protocol):
    """How the release state came about."""

    def history(self, task: str, limit: int | None = None) -> Sequence[ReleaseChange]:
        """Newest first."""
        ...


class Counts(Protocol):
    """The feature table as the promoter sees it."""

    def counts(self, task: str, *, sequence: int, since: datetime) -> Sequence[ArmCounts]:
        """What came of questions by release and arm, from that sequence on and not answered before that time."""
        ...


class ReleaseStore(Releases, History, Counts, Protocol):
    """All that the promoter keeps in SQL."""


class AdapterLookup(Protocol):
    """The registry's record of an adapter."""

    def find(self, adapter_id: str) -> AdapterRecord | None:
        """Raises Unavailable when the registry cannot be reached."""
        ...


class Aliases(Protocol):
    """The registry's names for the adapters that are released."""

    def set_aliases(self, task: str, *, champion: str | None, challenger: str | None) -> None:
        """By adapter ids; an alias of nobody is removed. Raises Unavailable, or AdapterMissing for an unknown one."""
        ...


class Log(Protocol):
    """Tells of something that happened, with ids."""

    def __call__(self, event: str, **fields: object) -> object: ...
