"""Results of drift checks, as they are stored in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

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
    """A drift check of a task. ``verdict``: the kind of drift found after debouncing; None if there is none.

    ``baseline``: the release sequence that the windows belong to. ``findings``: the results for the current window.
    ``figures``: counts of the current window, such as its ``rated`` and ``corrected`` rows, and in how many of the last
    windows each kind was flagged. ``told_at`` and ``told``: when drift was last published on drift.v1 for this
    baseline, and with which remedy; ``told_at`` equals ``checked_at`` if this check published it.
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


@dataclass(frozen=True, kw_only=True)
class CheckedWindow:
    """A current window and the findings of the tests on it."""

    window: Window
    findings: Sequence[Finding]


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """The contents of a drift report.

    ``windows``: newest first. ``novel``: unfamiliar questions of the current window, each with its highest cosine
    similarity to a question of the reference window. ``measured`` and ``named``: columns of numbers and of names, over
    the rows of both windows; the first ``reference_rows`` rows are the reference. ``alpha``, ``flags`` and ``of``: the
    thresholds of the check.
    """

    check: DriftCheck
    windows: Sequence[CheckedWindow]
    novel: Sequence[tuple[str, float]]
    reference_rows: int
    measured: Mapping[str, Sequence[float | None]]
    named: Mapping[str, Sequence[str]]
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
