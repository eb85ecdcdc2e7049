"""A release state as the promoter keeps it, and its history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from schemas.release import Stage


@dataclass(frozen=True, kw_only=True)
class Release:
    """Which adapter a task is served with. ``changed_at``: when ``sequence`` was reached.

    ``since_sequence``: the sequence at which the canary or experiment that is under way began; what was answered
    by an older one does not count for it.
    """

    task: str
    sequence: int = 0
    champion: str | None = None
    previous: str | None = None
    challenger: str | None = None
    stage: Stage = "steady"
    share: float = 0.0
    salt: str = ""
    reason: str = ""
    since_sequence: int = 0
    changed_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ReleaseChange:
    """A line of the history: the state after a change, the event that told of it and the event that caused it."""

    release: Release
    event_type: str
    cause: str | None
    at: datetime
