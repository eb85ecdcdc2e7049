"""What the monitor needs: the answers of a task, the checks that were made, and which are under way."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from schemas.delivery import Run
from schemas.drift import Baseline, DriftCheck
from schemas.features import Interaction


class Answers(Protocol):
    """The feature table as the monitor sees it: answers that belong to a baseline, by the time of the answer.

    Those are the champion's since the baseline, and what the same adapter answered before as the challenger. Answers
    without text, of questions that only search, are none.
    """

    def count(
        self, task: str, baseline: Baseline, *, since: datetime | None = None, rated: bool = False, limit: int
    ) -> int:
        """How many there are, counted up to ``limit``: only those after ``since``, only those that users rated."""
        ...

    def rows(self, task: str, baseline: Baseline, *, newest: bool = False, limit: int) -> list[Interaction]:
        """The first ones, or the newest, oldest first."""
        ...

    def last_of_others(self, task: str, champion: str | None, sequence: int) -> int | None:
        """The highest release sequence, up to ``sequence``, by which another champion answered; None if none did."""
        ...


class Checks(Protocol):
    """The drift checks that were made."""

    def add(self, check: DriftCheck) -> None:
        """Inside a transaction; adding a check twice is adding it once."""
        ...

    def recent(self, task: str | None, limit: int) -> Sequence[DriftCheck]:
        """Newest first."""
        ...


class Runs(Protocol):
    """The checks that are under way."""

    def unfinished(self, agent: str) -> list[Run]:
        """Runs that are queued or running. Inside a transaction nobody else adds one until it ends."""
        ...
