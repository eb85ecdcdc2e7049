"""Results of drift checks, as they are stored in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

from schemas.event import JsonObject
from schemas.interactions import InteractionOutcome
from schemas.learning import Remedy, Window

RATED: tuple[InteractionOutcome, ...] = ("approved", "disapproved", "corrected")
"""Outcomes of answers that a user has judged."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The release from which a drift check starts: it compares only answers given since then.

    ``sequence``: of the release that made ``champion`` the champion; 0 and None if nothing was ever released.
    ``renewed``: whether it is the release since which the champion answers a task that has changed a little; answers
    that it gave before then, also as the challenger, do not count.
    """

    sequence: int = 0
    champion: str | None = None
    renewed: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one test. ``p_value``: how likely such a difference is without drift. ``effect``: its size."""

    kind: str
    p_value: float
    effect: float
    flagged: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class DriftCheck:
    """A drift check of a task. ``verdict``: the kind of drift that was found; None if there is none.

    ``baseline``: the release sequence that the windows belong to. ``findings``: the results for the current window.
    ``figures``: counts of the current window, such as its ``rated`` and ``corrected`` rows, and in how many of the last
    windows each kind was flagged. ``told_at`` and ``told``: when drift was last published on drift.v1 for this
    baseline, and with which remedy; ``told_at`` equals ``checked_at`` if this check published it. ``to_label``: with
    the remedy "label", the ids of the answers whose ratings or corrections would tell most, the best first.
    """

    check_id: str
    task: str
    checked_at: datetime
    baseline: int
    reference: Window
    current: Window
    findings: tuple[Finding, ...]
    verdict: str | None = None
    remedy: Remedy = "none"
    reasons: tuple[str, ...] = ()
    report_uri: str | None = None
    figures: dict[str, float] = field(default_factory=dict)
    told_at: datetime | None = None
    told: Remedy | None = None
    to_label: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckedWindow:
    """A current window and the findings of the tests on it."""

    window: Window
    findings: Sequence[Finding]


ColumnTest = Callable[[Sequence[int], Sequence[int]], float]
"""A test of a column. It gets the numbers of the rows that count, those of the reference and the current ones, and
returns a score that is low where they differ, such as a p-value."""


@dataclass(frozen=True, kw_only=True)
class ColumnResult:
    """What a detector says of a column. ``drifted``: whether ``score`` is at most ``threshold``."""

    score: float
    threshold: float
    drifted: bool


@dataclass(frozen=True, kw_only=True)
class CheckedColumn:
    """A column that is tested for drift.

    ``values``: what a chart shows of each row, all numbers or all names, first the rows of the reference; None where a
    row does not count. ``test`` finds whatever else it needs of a row, such as its user or its question's embedding, by
    the row's number. ``method``: the name of the test.
    """

    kind: str
    values: Sequence[float | None] | Sequence[str | None]
    test: ColumnTest
    threshold: float
    method: str

    def counted(self, reference_rows: int) -> tuple[list[int], list[int]]:
        """Returns the numbers of the rows that count: those of the reference, the first ones, and the current ones."""
        rows = [number for number, value in enumerate(self.values) if value is not None]
        before = [number for number in rows if number < reference_rows]
        return before, rows[len(before) :]

    def result(self, reference_rows: int) -> ColumnResult:
        """Runs the test, as a detector does."""
        score = self.test(*self.counted(reference_rows))
        return ColumnResult(score=score, threshold=self.threshold, drifted=score <= self.threshold)


@dataclass(frozen=True, kw_only=True)
class DescribedColumns:
    """Columns that a report shows and that nothing is concluded from: numbers in ``measured``, names in ``named``.

    The first ``reference_rows`` rows are the reference.
    """

    reference_rows: int
    measured: Mapping[str, Sequence[float | None]]
    named: Mapping[str, Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Detection:
    """What a detector found. ``results``: of each tested column, by its kind.

    ``found``: the detector's own result as JSON, from which ``results`` was read. ``charts``: what the reports' viewer
    draws of it. ``problem``: what failed; where ``found`` is None, the tests ran without the detector, and the results
    are the same.
    """

    results: Mapping[str, ColumnResult]
    found: JsonObject | None = None
    charts: str | None = None
    problem: str | None = None

    @property
    def drifted(self) -> tuple[str, ...]:
        """The kinds of the columns that drifted."""
        return tuple(kind for kind, result in self.results.items() if result.drifted)


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """The contents of a drift report.

    ``windows``: newest first. ``novel``: unfamiliar questions of the current window, each with its highest cosine
    similarity to a question of the reference window. ``to_label``: the answers of ``check.to_label``, id and question.
    ``alpha``, ``flags`` and ``of``: the thresholds of the check.
    """

    check: DriftCheck
    detection: Detection
    windows: Sequence[CheckedWindow]
    novel: Sequence[tuple[str, float]]
    to_label: Sequence[tuple[str, str]] = ()
    alpha: float
    flags: int
    of: int


@dataclass(frozen=True, kw_only=True)
class StoredReport:
    """A report on disk: its task, the id of its check or adapter as ``name``, and when it was written."""

    task: str
    name: str
    written_at: datetime
    size_bytes: int


DRIFT_CHECK: TypeAdapter[DriftCheck] = TypeAdapter(DriftCheck)
"""Converts a check to JSON and back: ``dump_python(check, mode="json")``, ``validate_python(values)``."""
