"""Which adapter a task is served with: the whole release state travels in every event."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.event import Event, Name

Stage = Literal["steady", "canary", "experiment"]


class ReleaseEvent(Event):
    """The release state of a task after a change. The last event alone rebuilds a worker's state.

    ``sequence`` rises by one with each change; a reader ignores a sequence that is not above what it has.
    ``share`` is the part of users, 0 to 1, that the challenger answers; ``salt`` makes the choice sticky per release.
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

    @property
    def key(self) -> str:
        return self.task


class CanaryStarted(ReleaseEvent):
    """A validated adapter began to answer a share of the users."""

    type: ClassVar[str] = "everlearn.canary.started.v1"


class CanaryAdvanced(ReleaseEvent):
    """The canary's share grew."""

    type: ClassVar[str] = "everlearn.canary.advanced.v1"


class AdapterPromoted(ReleaseEvent):
    """The challenger became the champion."""

    type: ClassVar[str] = "everlearn.adapter.promoted.v1"


class AdapterRolledBack(ReleaseEvent):
    """The challenger or champion was taken out of service."""

    type: ClassVar[str] = "everlearn.adapter.rolled-back.v1"
