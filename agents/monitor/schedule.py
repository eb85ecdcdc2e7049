"""When a check is made, and when its result is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.drift import DriftCheck
from schemas.learning import Remedy

_URGENCY: tuple[Remedy, ...] = ("none", "label", "index", "retrain")
"""From what asks for least to what asks for most."""


@dataclass(frozen=True, kw_only=True)
class SchedulePolicy:
    """Both windows must be full; then a check is made after ``every_rows`` new answers or new ratings."""

    reference_rows: int
    current_rows: int
    every_rows: int
    cool_down_seconds: float

    @property
    def rows_needed(self) -> int:
        return self.reference_rows + self.current_rows


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Answers of a baseline, each counted no further than matters.

    ``fresh``: answered after the last check's window. ``rated``: rated ones from that window's beginning on.
    """

    rows: int
    fresh: int = 0
    rated: int = 0


def is_due(seen: Seen, last: DriftCheck | None, policy: SchedulePolicy, now: datetime) -> bool:
    """Whether a check should be made. ``last``: the newest check of the same baseline.

    Ratings come late: a window is looked at again when enough of its answers were rated since. Drift that was told is
    looked at again when the cool-down is over, so that lasting drift is told again without traffic.
    """
    if seen.rows < policy.rows_needed:
        return False
    told_at = last.told_at if last is not None and last.told == _URGENCY[-1] else None
    if told_at is not None and _is_cooling(told_at, now, policy):
        return False  # nothing more urgent could be told, and the training wants the processor
    if last is None or seen.fresh >= policy.every_rows:
        return True
    if seen.rated - last.figures.get("rated", 0) >= policy.every_rows:
        return True
    return last.verdict is not None and last.told_at is not None and not _is_cooling(last.told_at, now, policy)


def is_silent(last: DriftCheck | None, remedy: Remedy, at: datetime, policy: SchedulePolicy) -> bool:
    """Whether drift is not told because it was told a short while ago.

    ``last``: the newest check of the same baseline. A remedy that asks for more than the one that was told is
    news: "label" must not silence "retrain".
    """
    if last is None or last.told_at is None or last.told is None:
        return False
    asks_for_more = _URGENCY.index(remedy) > _URGENCY.index(last.told)
    return _is_cooling(last.told_at, at, policy) and not asks_for_more


def _is_cooling(told_at: datetime, at: datetime, policy: SchedulePolicy) -> bool:
    return at < told_at + timedelta(seconds=policy.cool_down_seconds)
