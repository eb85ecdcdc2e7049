"""Says which hours of the week a reference has seen. At other hours, other people ask other things, without drift."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from schemas.features import Interaction

DAY, WEEK = timedelta(days=1), timedelta(days=7)
HOURS = 24
FIRST_OF_WEEKEND = 5
NEAR = 1
"""Hours. An hour counts as seen when the reference has an answer at most this long before or after it."""


def short_reference(reference: Sequence[Interaction]) -> str | None:
    """Returns a sentence where the reference is shorter than a day or a week, and None where it is not."""
    times = [row.answered_at for row in reference if row.answered_at is not None]
    covered = max(times) - min(times) if times else timedelta()
    if covered >= WEEK - timedelta(hours=NEAR):
        return None
    cycle = "a day" if covered < DAY - timedelta(hours=NEAR) else "a week"
    return (
        f"the reference covers {_length(covered)}, less than {cycle}: what differs at other times may be reported as "
        "drift, and hours that it has not seen start no training"
    )


def is_seen(reference: Sequence[Interaction], rows: Sequence[Interaction]) -> list[bool]:
    """Returns for each row whether the reference has answers at about its hour of the day, and of its part of the week.

    The parts are the days from Monday to Friday, and the weekend; both in UTC. What is less than an hour from the
    reference is seen, too, whatever day it is on.
    """
    seen: set[tuple[bool, int]] = set()
    for row in reference:
        if row.answered_at is not None:
            for hours in range(-NEAR, NEAR + 1):
                moment = row.answered_at + timedelta(hours=hours)
                seen |= {_slot(moment), (_slot(row.answered_at)[0], moment.hour)}
    return [row.answered_at is None or _slot(row.answered_at) in seen for row in rows]


def _slot(moment: datetime) -> tuple[bool, int]:
    return moment.weekday() >= FIRST_OF_WEEKEND, moment.hour


def _length(covered: timedelta) -> str:
    hours = covered / timedelta(hours=1)
    if hours < 1:
        return f"{hours * 60:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 2 * HOURS else f"{hours / HOURS:.0f} days"
