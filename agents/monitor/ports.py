"""What the monitor needs: answers of a task, checks that were made, an embedding model, a detector, and reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from agents.monitor.differences import Floats
from schemas.drift import (
    Baseline,
    CheckedColumn,
    DescribedColumns,
    Detection,
    DriftCheck,
    DriftReport,
    StoredReport,
)
from schemas.features import DocumentState, Interaction
from schemas.retrieval import Hit, Search


class Answers(Protocol):
    """Reads the answers in the feature table that belong to a baseline.

    These are the champion's answers since the baseline, and what the same adapter answered before as the challenger.
    Answers without text, to questions that only search, do not count. The order is that of the releases, and of the
    times within a release.
    """

    def count(
        self, task: str, baseline: Baseline, *, since: datetime | None = None, rated: bool = False, limit: int
    ) -> int:
        """Counts up to ``limit`` answers: only those of the newest that are after ``since``, only those that users
        rated."""
        ...

    def rows(self, task: str, baseline: Baseline, *, newest: bool = False, limit: int) -> list[Interaction]:
        """Returns the first answers, or the newest ones; oldest first in both cases."""
        ...

    def last_of_others(self, task: str, champion: str | None, sequence: int) -> int | None:
        """Returns the highest release sequence, up to ``sequence``, at which another champion answered, if any did."""
        ...


class Checks(Protocol):
    """Stores the drift checks that were made."""

    def add(self, check: DriftCheck) -> None:
        """Inside a transaction; adding a check twice is adding it once."""
        ...

    def recent(self, task: str | None, limit: int) -> Sequence[DriftCheck]:
        """Returns the newest checks first."""
        ...


class QuestionEmbedder(Protocol):
    """An embedding model."""

    def embed(self, texts: Sequence[str]) -> Floats:
        """Returns unit vectors, shape (texts, dimension)."""
        ...


class DocumentSearch(Protocol):
    """Searches documents."""

    def search(self, searches: Sequence[Search]) -> list[list[Hit]]:
        """Returns the hits of each search, best first, of current versions and of the search's tenant only.

        Raises Unavailable.
        """
        ...


class DocumentVersions(Protocol):
    """The current versions of documents."""

    def current(self, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], DocumentState]:
        """Returns states by (tenant, document_id)."""
        ...


class Detector(Protocol):
    """Says which columns drifted."""

    def detect(self, columns: Sequence[CheckedColumn], described: DescribedColumns) -> Detection:
        """Tests the columns, each by its own test with its own threshold.

        ``described``: other columns that the detector's charts are to show, of which it claims nothing.
        """
        ...


class DriftReports(Protocol):
    """Writes reports for people."""

    def write(self, report: DriftReport) -> str:
        """Returns the page's URI. Raises Unavailable when the disk is full."""
        ...


class KeptChecks(Protocol):
    """The drift checks, of which old ones may go."""

    def recent(self, task: str | None, limit: int) -> Sequence[DriftCheck]:
        """Returns the newest checks first."""
        ...

    def of(self, check_ids: Sequence[str]) -> dict[str, DriftCheck]:
        """Returns the checks that exist, by id."""
        ...

    def forget_report(self, check_id: str) -> None:
        """Notes that the report of a check was deleted."""
        ...

    def prune(self, before: datetime) -> int:
        """Deletes checks that were made before then, except each task's newest; returns how many."""
        ...


class ReportFiles(Protocol):
    """The reports on this machine."""

    def older(self, before: datetime) -> list[StoredReport]:
        """Returns the reports that were written before then."""
        ...

    def remove(self, report: StoredReport) -> bool:
        """Deletes a report. Returns False, and logs the reason, where that fails."""
        ...
