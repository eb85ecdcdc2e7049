"""Events about releases: which adapters serve a task. Each event carries the whole release state."""

from __future__ import annotations

import operator
from typing import ClassVar, Literal

from pydantic import Field

from schemas.event import Event, Name
from schemas.tasks import TaskFingerprint

Stage = Literal["steady", "canary", "experiment"]


class ReleaseEvent(Event):
    """The release state of a task after a change. The last event alone is enough to restore a worker's state.

    ``sequence`` grows by one with each change; a reader ignores an event whose sequence is not higher than its own.
    ``share`` is the share of users, 0 to 1, whom the challenger answers. ``salt`` keeps the choice for each user the
    same during a release.
    """

    task: Name
    sequence: int = Field(ge=1)
    champion: str | None = None
    previous: str | None = None
    challenger: str | None = None
    stage: Stage = "steady"
    share: float = Field(default=0.0, ge=0.0, le=1.0)
    salt: str = ""
    reason: str = ""
    fingerprints: dict[str, TaskFingerprint] = Field(default={}, exclude_if=operator.not_)
    """The task as the adapters were last validated on it, or else trained on it, by adapter."""
    fallen: str | None = None
    """The champion that was taken out of service because its task was replaced, until an adapter is promoted or its own
    canary has failed."""
    renewed: int = Field(default=0, ge=0, exclude_if=operator.not_)
    """The sequence since which the champion answers a task that has changed a little; 0 while it has not."""

    @property
    def key(self) -> str:
        return self.task


class CanaryStarted(ReleaseEvent):
    """A validated adapter started to answer a share of the users."""

    type: ClassVar[str] = "everlearn.canary.started.v1"


class CanaryAdvanced(ReleaseEvent):
    """The canary's share of users grew."""

    type: ClassVar[str] = "everlearn.canary.advanced.v1"


class AdapterPromoted(ReleaseEvent):
    """The challenger became the champion."""

    type: ClassVar[str] = "everlearn.adapter.promoted.v1"


class AdapterRolledBack(ReleaseEvent):
    """The challenger or the champion was taken out of service."""

    type: ClassVar[str] = "everlearn.adapter.rolled-back.v1"
