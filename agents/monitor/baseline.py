"""Since when a task's answers can be compared with each other: since its champion became the champion."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.drift import Baseline
from schemas.promotions import AdapterPromoted, AdapterRolledBack, ReleaseEvent


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What promotions.v1 has said of a task. ``since``: when its champion became the champion, None if not known.

    A compacted topic keeps a task's last event, which need not be the one that changed the champion.
    """

    sequence: int
    champion: str | None
    since: int | None


def follow(known: Followed | None, event: ReleaseEvent) -> Followed:
    """What is known after one more event; an event that is not newer changes nothing."""
    if known is not None and event.sequence <= known.sequence:
        return known
    if known is not None and known.champion == event.champion and not isinstance(event, AdapterPromoted):
        since = known.since
    else:
        # a rollback that comes first may be one of a challenger, and then the champion is older
        is_change = isinstance(event, AdapterPromoted) or (known is not None and isinstance(event, AdapterRolledBack))
        since = event.sequence if is_change else None
    return Followed(sequence=event.sequence, champion=event.champion, since=since)


def baseline_of(followed: Followed | None, last_of_others: int | None, checked: int | None) -> Baseline:
    """The baseline that follows from the topic and, where that does not say it, from the answers.

    ``last_of_others``: the highest release by which another champion answered. ``checked``: the last check's
    baseline, which is kept as long as it can be right, so that a worker's restart is no new beginning.
    """
    if followed is None:
        return Baseline()
    if followed.since is not None:
        return Baseline(sequence=followed.since, champion=followed.champion)
    least = 0 if last_of_others is None else last_of_others + 1
    if checked is not None and least <= checked <= followed.sequence:
        least = checked
    return Baseline(sequence=least, champion=followed.champion)
