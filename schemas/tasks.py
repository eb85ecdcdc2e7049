"""What an adapter is trained for: a task, as ``everlearn.toml`` describes it."""

from __future__ import annotations

import operator
from collections.abc import Iterable

from pydantic import ConfigDict, Field, field_validator

from schemas.event import Name, Value
from schemas.questions import SearchMode
from schemas.words import composed

Overrides = dict[str, object]
"""Settings of a policy by name, as they stand in the file. ``infra/settings.py`` checks them together with the rest."""


class Task(Value):
    """A task: its instruction, whether answers are given from documents, its metric and limits.

    ``extra="forbid"``: a misspelled setting in the file must not pass in silence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Name
    instruction: str = Field(min_length=1, max_length=8000)
    """The system prompt's first part: what the model is to do."""
    retrieval: bool = False
    """Whether documents are searched and put into the prompt."""
    metric: str | None = None
    """How answers are scored: exact_match, token_f1, …; needed before an adapter can be trained."""
    labels: tuple[str, ...] = ()
    """The allowed answers of a classifying task; empty where any text is allowed."""
    top_k: int = Field(default=4, ge=1, le=50)
    """Chunks put into the prompt."""
    max_tokens: int = Field(default=96, ge=1, le=4096)
    """Longest answer, tokens, unless the question says otherwise."""
    min_score: float = Field(default=0.0, ge=-1.0, le=1.0)
    """Chunks less similar than this (cosine) are left out of the prompt."""
    mode: SearchMode = "hybrid"
    """How documents are searched: ``dense`` (by meaning), ``text`` (by words, BM25), or ``hybrid`` (both, fused)."""
    floor: float = Field(default=0.45, ge=0.0, le=1.0)
    """If no hit is this relevant (half cosine, half the question's words), the answer is ``unknown``. 0: never."""
    unknown: str = Field(default="I do not know: no document here answers this.", min_length=1, max_length=2000)
    """The answer where no hit reaches ``floor``."""
    chunk_tokens: int | None = Field(default=None, ge=16, le=8192)
    """Gives the task an index of its own, with chunks of this length; the index of [indexer] where absent."""
    overlap_tokens: int | None = Field(default=None, ge=0, le=1024)
    """Tokens that two neighbouring chunks of that index share; those of [indexer] where absent."""
    monitor: Overrides = Field(default={}, exclude_if=operator.not_)
    """Settings of [monitor] that differ for this task, in a table of their own: [tasks.NAME.monitor]."""
    trainer: Overrides = Field(default={}, exclude_if=operator.not_)
    """Likewise settings of [trainer]: [tasks.NAME.trainer]."""
    validator: Overrides = Field(default={}, exclude_if=operator.not_)
    """Likewise settings of [validator]: [tasks.NAME.validator]."""
    promoter: Overrides = Field(default={}, exclude_if=operator.not_)
    """Likewise settings of [promoter]: [tasks.NAME.promoter]."""

    @field_validator("labels")
    @classmethod
    def are_composed(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(composed, labels))


def unknown_task(name: str, tasks: Iterable[str]) -> str:
    """Returns the message for a task that is not configured: one line, with the configured tasks."""
    known = ", ".join(sorted(tasks))
    remedy = f"choose from {known}" if known else "add it with 'everlearn tasks add'"
    return f"there is no task {name!r}: {remedy}"
