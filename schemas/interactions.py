"""Events about feedback on answers, labelled examples, and recorded interactions."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.event import Event, Identifier, Name
from schemas.questions import Arm, MessageText

Rating = Literal["up", "down"]
InteractionOutcome = Literal["pending", "unrated", "approved", "disapproved", "corrected", "failed"]


class FeedbackGiven(Event):
    """A user rated or corrected an answer. Feedback may arrive before the answer does."""

    type: ClassVar[str] = "everlearn.feedback.given.v1"
    answer_id: Identifier
    rating: Rating | None = None
    correction: MessageText | None = None
    reason: Annotated[str, StringConstraints(max_length=2000)] | None = None
    user: Identifier | None = None

    @model_validator(mode="after")
    def is_not_empty(self) -> Self:
        if self.rating is None and self.correction is None and self.reason is None:
            raise ValueError("give a rating, a correction or a reason")
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
