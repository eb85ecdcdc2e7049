"""What drift checks find, as kept in SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.learning import Remedy, Window


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

    ``baseline``: the release sequence that the windows belong to.
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
