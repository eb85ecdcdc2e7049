"""The release state that the promoter keeps, its history, and the counts of answers that it judges a canary by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import TypeAdapter

from schemas.promotions import Stage
from schemas.questions import Arm
from schemas.tasks import TaskFingerprint


@dataclass(frozen=True, kw_only=True)
class Release:
    """Which adapters serve a task. ``changed_at``: when ``sequence`` was reached.

    ``since_sequence`` and ``since_at``: where the current canary or experiment started, or the one that led to the
    champion; answers from earlier releases do not count for it. ``waiting``: the newest validated adapter, whose canary
    starts when the current one has ended. ``earlier``: the champions before ``previous``, newest first, which further
    rollbacks return to; None where an earlier version of Everlearn wrote the state, and the history tells.
    ``fingerprints``, ``fallen``, ``renewed``: see ``ReleaseEvent``. ``served_as``: the task that the champion answers
    since ``renewed``; None while it is what the champion's fingerprint says.
    ``held``: why a canary or an experiment waits for more ratings than came in time, or empty while it does not.
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
    held: str = ""
    changed_at: datetime | None = None
    earlier: tuple[str | None, ...] | None = None
    fingerprints: Mapping[str, TaskFingerprint] = field(default_factory=dict)
    fallen: str | None = None
    renewed: int = 0
    served_as: TaskFingerprint | None = None

    @property
    def adapters(self) -> frozenset[str]:
        """The adapters that serve, that wait for it, and that a rollback may return to."""
        known = {self.champion, self.previous, self.challenger, self.waiting, self.fallen, *(self.earlier or ())}
        return frozenset(each for each in known if each is not None)


RELEASE = TypeAdapter(Release)
"""Converts a release to JSON and back."""


@dataclass(frozen=True, kw_only=True)
class ReleaseChange:
    """An entry of the history: the state after a change, the event that announced it and the event that caused it."""

    release: Release
    event_type: str
    cause: str | None
    at: datetime


@dataclass(frozen=True, kw_only=True)
class ArmCounts:
    """Outcomes of one arm of one release, where each user counts once, however much they ask and rate.

    ``asked``: users who asked. ``failed``: the parts of their answers that failed, added up. ``judged``: users who
    rated or corrected an answer. ``bad``: the parts of these answers that they disapproved or corrected, added up.
    """

    sequence: int
    arm: Arm
    asked: int
    failed: float
    judged: int
    bad: float
