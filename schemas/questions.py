"""Events about questions and their answers."""

from __future__ import annotations

import operator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from schemas.documents import DEFAULT_TENANT
from schemas.event import MAX_MESSAGE_CHARACTERS, Event, Identifier, Moment, Name, Value

MessageText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MESSAGE_CHARACTERS, pattern=r"\S")]
Arm = Literal["champion", "challenger"]
SearchMode = Literal["dense", "text", "hybrid"]
"""Search by meaning (cosine of embeddings), by words (BM25), or by both with their rankings fused."""
FinishReason = Literal["stop", "length", "retrieve_only"]


class Turn(Value):
    """One earlier message of a conversation."""

    role: Literal["user", "assistant"]
    text: MessageText


History = Annotated[tuple[Turn, ...], Field(max_length=50)]
"""The turns of a conversation before a question, oldest first."""
ServedHistory = Annotated[History, Field(exclude_if=operator.not_)]
"""The same of an answer. Most have none; their events are what they were before answers kept it."""


class QuestionAsked(Event):
    """A user asked a task a question. The answer's ``answer_id`` equals ``question_id``."""

    type: ClassVar[str] = "everlearn.question.asked.v1"
    question_id: Identifier
    task: Name
    text: MessageText
    history: History = ()
    user: Identifier | None = None
    session: Identifier | None = None
    tenant: Name = DEFAULT_TENANT
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    deadline: Moment | None = None
    """After this moment nobody waits for the answer. An answerer then publishes ``AnswerFailed`` at once."""
    retrieve_only: bool = False
    top_k: int | None = Field(default=None, ge=1, le=100)
    mode: SearchMode | None = None
    """How documents are searched. If missing, the task's setting is used."""
    filter: Annotated[str, StringConstraints(min_length=1, max_length=2000)] | None = None
    """A filter on the documents' metadata in the language of ``schemas.filters``, such as ``year >= 2024``."""

    @property
    def key(self) -> str:
        return self.session or self.user or self.question_id


class Source(Value):
    """A chunk that was given to the model for an answer. ``score`` is cosine similarity, -1 to 1."""

    document_id: Identifier
    chunk_id: str
    score: float
    text: str
    title: str | None = None
    uri: str | None = None
    heading: str | None = None
    """The headings above the chunk, outermost first, joined by `` > ``."""


class AnswerProduced(Event):
    """A question was answered. The event holds everything that is needed to trace how."""

    type: ClassVar[str] = "everlearn.answer.produced.v1"
    answer_id: Identifier
    task: Name
    question: str
    text: str
    sources: tuple[Source, ...] = ()
    history: ServedHistory = ()
    """The turns of the conversation that were in the prompt. Where no model was asked, the newest of the question's."""
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
    """Milliseconds from the question's event time to the answer's."""
    finish_reason: FinishReason = "stop"
    declined: bool = False
    """True if nothing relevant enough was found. The text then says that the answer is not known; no model ran."""

    @property
    def key(self) -> str:
        return self.answer_id


class AnswerFailed(Event):
    """A question could not be answered; ``reason`` says why."""

    type: ClassVar[str] = "everlearn.answer.failed.v1"
    answer_id: Identifier
    task: Name
    question: str
    reason: str
    history: ServedHistory = ()
    """The newest turns of the conversation that the question came with."""
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
