"""Rows of the feature table: one per question, joined from its answer and its feedback."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from schemas.documents import DEFAULT_TENANT
from schemas.event import JsonObject
from schemas.interactions import FeedbackSource, InteractionOutcome, Rating
from schemas.questions import Arm, Turn
from schemas.words import spaced

Trust = Literal["reviewer", "owner", "application", "anonymous", "other", "unknown"]
"""How much a rater's word on an answer weighs, the most trusted first.

``reviewer``: judges answers for the team. ``owner``: asked the question. ``application``: a rating that the application
derived by itself. ``anonymous``: feedback that names nobody. ``other``: a named user who did not ask. ``unknown``: from
before raters were recorded.
"""
UNKNOWN_RATER = "unknown"
"""The rater, and the source, of feedback that was recorded before raters were."""


@dataclass(frozen=True, kw_only=True, order=True)
class Stamp:
    """When a field was last set, and by which event. The greater stamp wins, in whatever order events arrive.

    ``event`` is ``Received.identity``. It decides between two events of the same microsecond, always in the same way.
    """

    time: datetime
    event: str


@dataclass(frozen=True, kw_only=True)
class Feedback:
    """What one rater says of one answer: the newest rating, correction and reason, each with its stamp.

    ``rater`` is the user, or else ``session:`` and the session; empty for all who name neither. A retraction removes
    what is older than it, so each stamp is later than ``retraction_stamp``.
    """

    answer_id: str
    source: FeedbackSource | Literal["unknown"]
    rater: str
    rating: Rating | None = None
    rating_stamp: Stamp | None = None
    correction: str | None = None
    correction_stamp: Stamp | None = None
    reason: str | None = None
    reason_stamp: Stamp | None = None
    retraction_stamp: Stamp | None = None


@dataclass(frozen=True, kw_only=True)
class Interaction:
    """The row of one question. Fields of the answer are None until it arrives, fields of feedback until there is some.

    ``revision`` counts the events merged into the row. The ``*_stamp`` fields decide by event time between several
    feedback events, and between several answers to a question that was asked twice under one id. ``history``: the
    turns before the question as the answer was given to them, see ``AnswerProduced.history``.

    Rating, correction and reason are what counts of all raters' feedback (``agents/recorder/voices.py``). ``rated_by``
    and ``corrected_by`` are ``Feedback.rater`` of whose word that is; None where he named nobody.
    """

    answer_id: str
    revision: int = 0
    outcome: InteractionOutcome = "pending"
    task: str | None = None
    tenant: str | None = None
    user: str | None = None
    session: str | None = None
    question: str | None = None
    history: tuple[Turn, ...] = ()
    answer: str | None = None
    failure: str | None = None
    sources: tuple[JsonObject, ...] = ()
    base_model: str | None = None
    engine: str | None = None
    adapter_id: str | None = None
    release_sequence: int | None = None
    arm: Arm | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    finish_reason: str | None = None
    declined: bool | None = None
    answered_at: datetime | None = None
    answer_stamp: Stamp | None = None
    rating: Rating | None = None
    rating_stamp: Stamp | None = None
    rated_by: str | None = None
    rating_trust: Trust | None = None
    correction: str | None = None
    correction_stamp: Stamp | None = None
    corrected_by: str | None = None
    correction_trust: Trust | None = None
    reason: str | None = None
    reason_stamp: Stamp | None = None
    first_event_at: datetime | None = None
    last_event_at: datetime | None = None

    @property
    def rater(self) -> str:
        """The unit in which the row counts: who asked, or the user who judged somebody else's answer.

        Who asked is the user, or else the session. All who name neither are one, the empty string.
        """
        corrected = self.correction is not None
        trust = self.correction_trust if corrected else self.rating_trust
        if trust == "other":
            return (self.corrected_by if corrected else self.rated_by) or ""
        return rater_name(self.user, self.session)

    @property
    def asked(self) -> str:
        """What was asked: the question, below the user's last turn where it follows up on one.

        "And for my wife?" alone does not say what it is about. Drift checks compare this text.
        """
        before = next((turn.text for turn in reversed(self.history) if turn.role == "user"), None)
        question = self.question or ""
        return question if before is None else f"{before}\n{question}"

    @property
    def has_unusable_correction(self) -> bool:
        """Whether the correction is no label of the task: it says that the answer was bad, and teaches nothing."""
        return self.correction is not None and self.outcome == "disapproved"


def rater_name(user: str | None, session: str | None) -> str:
    """Returns the user, or else the session; empty for all who name neither."""
    return user or (f"session:{session}" if session else "")


def what_differs(row: Interaction, *, tenant: str, asker: str, task: str, text: str) -> list[str]:
    """Names what of a question is not what the row's question has; none where the same person asks it again.

    ``asker`` is ``rater_name`` of who asks: whoever names no user is the same person only in the same session, or where
    neither question names one. A row without an answer belongs to nobody yet.
    """
    if row.answer_stamp is None:
        return []
    differ = {
        "tenant": tenant != (row.tenant or DEFAULT_TENANT),
        "user": asker != rater_name(row.user, row.session),
        "task": task != row.task,
        "text": spaced(text) != spaced(row.question or ""),
    }
    return [name for name, differs in differ.items() if differs]


@dataclass(frozen=True, kw_only=True)
class TaskWindow:
    """The answers of a task between two times, both included."""

    task: str
    start: datetime
    end: datetime


@dataclass(frozen=True, kw_only=True)
class Example:
    """A labelled example, one row per event. ``golden``: it judges adapters, and none is trained on it."""

    example_id: str
    task: str
    input: str
    output: str
    origin: str | None
    submitted_at: datetime
    golden: bool = False


@dataclass(frozen=True, kw_only=True)
class DocumentState:
    """The current version of a document. ``withdrawn`` documents stay, so that a late older version is ignored."""

    tenant: str
    document_id: str
    version: str
    content_hash: str
    chunk_count: int
    embedding_model: str
    title: str | None
    uri: str | None
    submitted_at: datetime
    event_id: str
    withdrawn: bool = False
    next_chunk_count: int | None = None
    """The number of chunks in the index that is being built, if there is one."""
