"""What every event is: an immutable, past-tense fact with a type, a topic and a partition key."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, StringConstraints

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=512)]
"""An id chosen by whoever publishes: any characters, 1 to 512 of them."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A short name that is safe in a file name, a metric and a Kafka key: task, tenant, worker."""

MAX_DOCUMENT_CHARACTERS = 2_000_000
MAX_MESSAGE_CHARACTERS = 32_000


class Event(BaseModel):
    """A fact. Frozen; a reader ignores fields that it does not know, so that adding one stays version 1."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str] = ""
    """CloudEvents type, ``everlearn.<entity>.<fact>.v1``."""

    @property
    def key(self) -> str:
        """The partition key: events with equal keys are read in the order they were written."""
        raise NotImplementedError(f"{type(self).__name__} must name its partition key")


class Value(BaseModel):
    """A frozen value inside an event."""

    model_config = ConfigDict(frozen=True, extra="ignore")
