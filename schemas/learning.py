"""Events about learning: detected drift, requests, and trained and validated adapters."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.event import Event, Identifier, JsonObject, Moment, Name, Value
from schemas.tasks import TaskFingerprint

Remedy = Literal["retrain", "index", "label", "none"]


class Window(Value):
    """A span of event time and the interactions in it."""

    start: Moment
    end: Moment
    rows: int = Field(ge=0)


class TaskEvent(Event):
    """An event of one task, with the task as its partition key."""

    task: Name

    @property
    def key(self) -> str:
        return self.task


class DriftDetected(TaskEvent):
    """The current window differs from the reference window; ``remedy`` says what would help."""

    type: ClassVar[str] = "everlearn.drift.detected.v1"
    kind: str
    remedy: Remedy
    evidence: JsonObject = Field(default_factory=dict)
    reference: Window | None = None
    current: Window | None = None
    report_uri: str | None = None


class TrainingRequested(TaskEvent):
    """Someone asked for a training run."""

    type: ClassVar[str] = "everlearn.training.requested.v1"
    reason: str | None = None


class DriftCheckRequested(TaskEvent):
    """Someone asked for a drift check now."""

    type: ClassVar[str] = "everlearn.drift-check.requested.v1"


class PromotionRequested(TaskEvent):
    """Someone asked to promote a validated adapter by hand.

    ``sequence``: the task's release that they saw. If the release has changed since then, the request is refused.
    """

    type: ClassVar[str] = "everlearn.promotion.requested.v1"
    adapter_id: Identifier
    reason: str | None = None
    sequence: int | None = Field(default=None, ge=0)


class RollbackRequested(TaskEvent):
    """Someone asked to take an adapter out of service: the challenger, or else the champion.

    ``adapter_id``: the adapter that they meant. If it is not the one that would be taken back, the request is refused.
    ``sequence``: the task's release that they saw. If the release has changed since then, the request is refused.
    Without both, whatever is in service is taken back.
    """

    type: ClassVar[str] = "everlearn.rollback.requested.v1"
    reason: str | None = None
    adapter_id: Identifier | None = None
    sequence: int | None = Field(default=None, ge=0)


class ExperimentRequested(TaskEvent):
    """Someone asked for an A/B comparison of an adapter against the champion.

    ``sequence``: the task's release that they saw. If the release has changed since then, the request is refused.
    """

    type: ClassVar[str] = "everlearn.experiment.requested.v1"
    adapter_id: Identifier
    share: float = Field(default=0.5, gt=0, lt=1)
    sequence: int | None = Field(default=None, ge=0)


class AdapterTrained(TaskEvent):
    """A training run produced a new adapter, which is in the registry."""

    type: ClassVar[str] = "everlearn.adapter.trained.v1"
    adapter_id: Identifier
    base_model: str
    dataset_id: str
    run_id: str
    cause: str | None = None
    """Event id of the drift or request that started the run."""
    fingerprint: TaskFingerprint | None = None
    """The task as the adapter was trained on it."""


class TrainingDeclined(TaskEvent):
    """A training was not run; ``reason`` says why."""

    type: ClassVar[str] = "everlearn.training.declined.v1"
    reason: str
    cause: str | None = None


class AdapterValidated(TaskEvent):
    """An adapter passed validation.

    ``tries``: its number among the candidates that were judged on the same held-out rows, from 1. ``level``: the
    probability of passing by chance that it was given. ``fingerprint``: the task as it was validated on.
    """

    type: ClassVar[str] = "everlearn.adapter.validated.v1"
    adapter_id: Identifier
    scores: dict[str, float] = Field(default_factory=dict)
    report_uri: str | None = None
    tries: int | None = Field(default=None, ge=1)
    level: float | None = Field(default=None, gt=0, lt=1)
    fingerprint: TaskFingerprint | None = None


class AdapterRejected(TaskEvent):
    """An adapter failed validation; ``reasons`` says why. ``tries``, ``level``: see AdapterValidated."""

    type: ClassVar[str] = "everlearn.adapter.rejected.v1"
    adapter_id: Identifier
    scores: dict[str, float] = Field(default_factory=dict)
    reasons: tuple[str, ...] = Field(min_length=1)
    report_uri: str | None = None
    tries: int | None = Field(default=None, ge=1)
    level: float | None = Field(default=None, gt=0, lt=1)
