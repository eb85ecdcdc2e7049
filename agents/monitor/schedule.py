"""Decides when a check is made, from which release on answers are compared, and whether drift is published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.drift import Baseline, DriftCheck
from schemas.envelope import MAX_CLOCK_SKEW
from schemas.learning import Remedy
from schemas.policies import MonitorPolicy
from schemas.promotions import AdapterPromoted, AdapterRolledBack, ReleaseEvent

_URGENCY: tuple[Remedy, ...] = ("none", "label", "index", "retrain")
"""From the remedy that asks for least to the one that asks for most."""


@dataclass(frozen=True, kw_only=True)
class AnswerCounts:
    """How many answers belong to a baseline. Counting stops at the numbers that decide.

    ``fresh``: answered after the last check's window. ``rated``: rated, and answered since that window's beginning.
    """

    rows: int
    fresh: int = 0
    rated: int = 0


@dataclass(frozen=True, kw_only=True)
class FollowedRelease:
    """A task's newest release on promotions.v1. ``since``: the sequence that made its champion, None if not known.

    A compacted topic keeps a task's last event, which need not be the one that changed the champion. ``renewed``: the
    sequence since which the champion answers a changed task, or 0.
    """

    sequence: int
    champion: str | None
    since: int | None
    renewed: int = 0


def is_due(counts: AnswerCounts, last: DriftCheck | None, policy: MonitorPolicy, now: datetime) -> bool:
    """Decides whether a check should be made. ``last``: the newest check of the same baseline.

    Ratings come late, so a window is checked again when enough of its answers were rated since. Published drift is
    checked again when the cool-down is over, so that lasting drift is published again without traffic.
    """
    if counts.rows < policy.rows_needed:
        return False
    published_at = last.told_at if last is not None and last.told == _URGENCY[-1] else None
    if published_at is not None and _is_cooling(published_at, now, policy):
        return False  # nothing more urgent could be published, and the training needs the processor
    if last is None or counts.fresh >= policy.every_rows:
        return True
    if counts.rated - last.figures.get("rated", 0) >= policy.every_rows:
        return True
    return last.verdict is not None and last.told_at is not None and not _is_cooling(last.told_at, now, policy)


def is_repeated(last: DriftCheck | None, remedy: Remedy, at: datetime, policy: MonitorPolicy) -> bool:
    """Decides whether drift is not published because it was published a short while ago.

    ``last``: the newest check of the same baseline. A remedy that asks for more than the published one is no
    repetition: "label" must not silence "retrain".
    """
    if last is None or last.told_at is None or last.told is None:
        return False
    asks_for_more = _URGENCY.index(remedy) > _URGENCY.index(last.told)
    return _is_cooling(last.told_at, at, policy) and not asks_for_more


def follow(known: FollowedRelease | None, event: ReleaseEvent) -> FollowedRelease:
    """Returns what is known after one more event. An event that is not newer changes nothing."""
    if known is not None and event.sequence <= known.sequence:
        return known
    if known is not None and known.champion == event.champion and not isinstance(event, AdapterPromoted):
        since = known.since
    else:
        # If the first event is a rollback, it may have removed a challenger. The champion is then older.
        is_change = isinstance(event, AdapterPromoted) or (known is not None and isinstance(event, AdapterRolledBack))
        since = event.sequence if is_change else None
    return FollowedRelease(sequence=event.sequence, champion=event.champion, since=since, renewed=event.renewed)


def baseline_of(release: FollowedRelease | None, last_of_others: int | None, checked: int | None) -> Baseline:
    """Decides from which release on answers are compared: from the promotion of the champion.

    If the topic does not say which release that was, it is derived from the answers. ``last_of_others``: the highest
    release sequence at which another champion answered. ``checked``: the last check's baseline. It is kept as long as
    it can be right, so that a restarted worker goes on with the same baseline.
    """
    if release is None:
        return Baseline()
    if release.renewed:
        return Baseline(sequence=release.renewed, champion=release.champion, renewed=True)
    if release.since is not None:
        return Baseline(sequence=release.since, champion=release.champion)
    least = 0 if last_of_others is None else last_of_others + 1
    if checked is not None and least <= checked <= release.sequence:
        least = checked
    return Baseline(sequence=least, champion=release.champion)


def _is_cooling(published_at: datetime, at: datetime, policy: MonitorPolicy) -> bool:
    # A time in the future was written by a clock that was ahead. It must not silence a task until then.
    return published_at - MAX_CLOCK_SKEW <= at < published_at + timedelta(seconds=policy.cool_down_seconds)
