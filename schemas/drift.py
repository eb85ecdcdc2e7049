"""What drift checks find, as kept in SQL."""

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
    """Since when answers are compared with each other.

    ``sequence``: the release that made ``champion`` the champion; 0 and None where nothing was ever released.
    """

    sequence: int = 0
    champion: str | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One test's result. ``p_value``: how likely such a difference is without drift; ``effect``: how large it is."""

    kind: str
    p_value: float
    effect: float
    flagged: bool
    detail: str


@dataclass(frozen=True, kw_only=True)
class DriftCheck:
    """A check of a task. ``verdict``: the kind of drift that is certain after debouncing; None where none is.

    ``baseline``: the release sequence that the windows belong to. ``findings``: those of the current window.
    ``figures``: what the current window holds, such as ``rated`` and ``corrected`` rows, and in how many of the last
    windows each kind was flagged. ``told_at`` and ``told``: when drift of this baseline was last told on drift.v1,
    with which remedy; ``told_at`` equals ``checked_at`` where this check told it.
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
    """A current window and what the tests found in it."""

    window: Window
    findings: Sequence[Finding]


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What a check's report shows.

    ``windows``: newest first. ``novel``: unfamiliar questions of the current window, each with its greatest cosine
    similarity to a question of the reference. ``measured`` and ``named``: columns of numbers and of names over the rows
    of both windows, of which the first ``reference_rows`` are the reference. ``alpha``, ``flags`` and ``of``: the
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


DRIFT_CHECK: TypeAdapter[DriftCheck] = TypeAdapter(DriftCheck)
"""A check as JSON and back: ``dump_python(check, mode="json")``, ``validate_python(values)``."""
