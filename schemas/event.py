"""The base class of all events: an event is an immutable fact with a past-tense name, a type and a partition key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, StringConstraints, model_validator


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this moment lies outside the years 1 to 9999") from error


Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A point in time in UTC. It is converted on reading, because the conversion fails for times near year 1 or 9999."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=512)]
"""An id that the publisher chooses: 1 to 512 characters of any kind."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A short name of a task, a tenant or a worker, which is safe in a file name, a metric and a Kafka key."""

JsonObject = dict[str, Any]
"""A JSON object with any values."""

MAX_DOCUMENT_CHARACTERS = 2_000_000
MAX_MESSAGE_CHARACTERS = 32_000


class Event(BaseModel):
    """A fact. A reader ignores fields that it does not know, so an event with a new field is still version 1."""

    # JSON has no NaN and no infinity. They would be written as null, which no reader accepts as a number.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    type: ClassVar[str] = ""
    """CloudEvents type, ``everlearn.<entity>.<fact>.v1``."""

    @model_validator(mode="after")
    def holds_no_nul(self) -> Self:
        for name, value in self.__dict__.items():
            if _holds_nul(value):
                raise ValueError(f"{name} holds the character U+0000, which PostgreSQL cannot keep: remove it")
        return self

    @property
    def key(self) -> str:
        """The partition key. Events with the same key are read in the order in which they were written."""
        raise NotImplementedError(f"{type(self).__name__} must name its partition key")


class Value(BaseModel):
    """A frozen value inside an event."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


_WITHOUT_TEXT = (type(None), bool, int, float, datetime)


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, _WITHOUT_TEXT):  # most values; the check for a model below takes longer than all others
        return False
    if isinstance(value, BaseModel):
        return any(map(_holds_nul, value.__dict__.values()))
    if isinstance(value, dict):
        return any(map(_holds_nul, value)) or any(map(_holds_nul, value.values()))
    return isinstance(value, list | tuple) and any(map(_holds_nul, value))
