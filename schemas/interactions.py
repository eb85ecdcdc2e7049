"""Events about feedback on answers, labelled examples, and recorded interactions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.event import Event, Identifier, Name
from schemas.questions import Arm, MessageText

Rating = Literal["up", "down"]
FeedbackSource = Literal["user", "reviewer", "application"]
"""Who speaks: a user, somebody who judges answers for the team, or the application by what it saw a user do."""
InteractionOutcome = Literal["pending", "unrated", "approved", "disapproved", "corrected", "failed"]


class FeedbackGiven(Event):
    """Somebody rated or corrected an answer, or took that back. Feedback may arrive before the answer does.

    Of each rater and source the newest word counts. ``schemas.features.Trust`` says whose word weighs more.
    """

    type: ClassVar[str] = "everlearn.feedback.given.v1"
    answer_id: Identifier
    rating: Rating | None = None
    correction: MessageText | None = None
    reason: Annotated[str, StringConstraints(max_length=2000)] | None = None
    user: Identifier | None = None
    """Who says so."""
    session: Identifier | None = None
    """The conversation in which it was said; it stands in for a rater without a user."""
    source: FeedbackSource | None = None
    """``user`` if missing. Whoever may write to the topic may speak as a reviewer."""
    retract: bool = False
    """Takes back all that this rater said of the answer before."""

    @model_validator(mode="after")
    def is_not_empty(self) -> Self:
        empty = self.rating is None and self.correction is None and self.reason is None
        if self.retract and not empty:
            raise ValueError("retract takes back everything: give no rating, correction or reason with it")
        if empty and not self.retract:
            raise ValueError("give a rating, a correction or a reason, or retract")
        return self

    @property
    def key(self) -> str:
        return self.answer_id


class ExampleSubmitted(Event):
    """Someone submitted a labelled example: an input and its right output.

    ``golden``: it belongs to the golden set, on which every adapter is judged and none is trained.
    """

    type: ClassVar[str] = "everlearn.example.submitted.v1"
    task: Name
    input: MessageText
    output: MessageText
    origin: Annotated[str, StringConstraints(max_length=200)] | None = None
    golden: bool = False

    @property
    def key(self) -> str:
        return self.task


class InteractionRecorded(Event):
    """An answer's row in the feature table changed. ``revision`` counts the events merged into the row."""

    type: ClassVar[str] = "everlearn.interaction.recorded.v1"
    answer_id: Identifier
    task: Name | None = None
    """None while only feedback has arrived, and not the answer."""
    adapter_id: str | None = None
    arm: Arm | None = None
    outcome: InteractionOutcome
    revision: int = Field(ge=1)

    @property
    def key(self) -> str:
        return self.answer_id
