"""A release state as the promoter keeps it, its history, and what became of the answers that were given by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from schemas.promotions import Stage
from schemas.questions import Arm


@dataclass(frozen=True, kw_only=True)
class Release:
    """Which adapter a task is served with. ``changed_at``: when ``sequence`` was reached.

    ``since_sequence`` and ``since_at``: where the canary or experiment that is under way began, or the one that led
    to the champion; what was answered by an older release does not count for it. ``waiting``: the newest validated
    adapter, whose canary starts when the one under way has ended.
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
    since_at: datetime | None = None
    waiting: str | None = None
    changed_at: datetime | None = None


RELEASE = TypeAdapter(Release)
"""Reads and writes a release as JSON."""


@dataclass(frozen=True, kw_only=True)
class ReleaseChange:
    """A line of the history: the state after a change, the event that told of it and the event that caused it."""

    release: Release
    event_type: str
    cause: str | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ArmCounts:
    """What became of the questions that one arm of one release was asked.

    ``judged``: answers that were rated or corrected; ``bad``: those of them that were disapproved or corrected.
    """

    sequence: int
    arm: Arm
    asked: int
    failed: int
    judged: int
    bad: int
