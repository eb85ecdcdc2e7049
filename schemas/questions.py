"""Questions asked and the answers given."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from schemas.documents import DEFAULT_TENANT
from schemas.event import MAX_MESSAGE_CHARACTERS, Event, Identifier, Moment, Name, Value

MessageText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MESSAGE_CHARACTERS, pattern=r"\S")]
Arm = Literal["champion", "challenger"]
SearchMode = Literal["dense", "text", "hybrid"]
"""By meaning (cosine of embeddings), by words (BM25), or by both, fused."""
FinishReason = Literal["stop", "length", "retrieve_only"]


class Turn(Value):
    """One earlier message of a conversation."""

    role: Literal["user", "assistant"]
    text: MessageText


class QuestionAsked(Event):
    """A user asked something of a task. ``answer_id`` of the reply equals ``question_id``."""

    type: ClassVar[str] = "everlearn.question.asked.v1"
    question_id: Identifier
    task: Name
    text: MessageText
    history: tuple[Turn, ...] = Field(default=(), max_length=50)
    user: Identifier | None = None
    session: Identifier | None = None
    tenant: Name = DEFAULT_TENANT
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    deadline: Moment | None = None
    """After this moment nobody waits for the answer; an answerer then says ``AnswerFailed`` instead of working."""
    retrieve_only: bool = False
    top_k: int | None = Field(default=None, ge=1, le=100)
    mode: SearchMode | None = None
    """How documents are searched; as the task says where absent."""
    filter: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = None
    """Which documents may be found, by metadata, in the language of ``schemas.filters``: ``year >= 2024``."""

    @property
    def key(self) -> str:
        return self.session or self.user or self.question_id


class Source(Value):
    """A chunk that an answer was given from. ``score`` is cosine similarity, -1 to 1."""

    document_id: Identifier
    chunk_id: str
    score: float
    text: str
    title: str | None = None
    uri: str | None = None
    heading: str | None = None
    """The headings above the chunk, outermost first, `` > `` between them."""


class AnswerProduced(Event):
    """A question was answered, with everything needed to trace how."""

    type: ClassVar[str] = "everlearn.answer.produced.v1"
    answer_id: Identifier
    task: Name
    question: str
    text: str
    sources: tuple[Source, ...] = ()
    user: Identifier | None = None
    session: Identifier | None = None
    tenant: Name = DEFAULT_TENANT
    base_model: str | None = None
    engine: str | None = None
    adapter_id: str | None = None
    release_sequence: int = Field(default=0, ge=0)
    arm: Arm = "champion"
    prompt_tokens: int = Field(default=0, ge=0)
    completion_tokens: int = Field(default=0, ge=0)
    latency_ms: float = Field(default=0.0, ge=0)
    """From the question's event time to the answer's, milliseconds."""
    finish_reason: FinishReason = "stop"
    declined: bool = False
    """Nothing relevant enough was found, so the answer is that the answerer does not know; no model was asked."""

    @property
    def key(self) -> str:
        return self.answer_id


class AnswerFailed(Event):
    """A question could not be answered, and why."""

    type: ClassVar[str] = "everlearn.answer.failed.v1"
    answer_id: Identifier
    task: Name
    question: str
    reason: str
    user: Identifier | None = None
    session: Identifier | None = None
    tenant: Name = DEFAULT_TENANT
    adapter_id: str | None = None
    release_sequence: int = Field(default=0, ge=0)
    arm: Arm = "champion"
    latency_ms: float = Field(default=0.0, ge=0)

    @property
    def key(self) -> str:
        return self.answer_id
