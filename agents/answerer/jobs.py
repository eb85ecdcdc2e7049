"""A question on its way to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.envelope import Received
from schemas.questions import QuestionAsked
from schemas.retrieval import Hit
from schemas.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Job:
    """A question to generate an answer for, its task and the chunks found for it."""

    asked: Received[QuestionAsked]
    task: Task
    hits: Sequence[Hit]
