"""What an adapter is trained for: a task, as ``everlearn.toml`` describes it."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from pydantic import ConfigDict, Field, field_validator

from schemas.event import Name, Value
from schemas.questions import SearchMode
from schemas.words import comparable, composed, label_of, spaced

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

    def accepts(self, output: str) -> bool:
        """Whether an answer is one of the task's labels, ignoring case; any answer where it has none."""
        return not self.labels or label_of(output, self.labels) is not None


class TaskFingerprint(Value):
    """A task as an adapter learned it, or was validated on it, in what a difference of can make its answers wrong.

    Comments, white space and settings that change no prompt are not in it.
    """

    instruction: str
    """Without differences in white space; the beginning and a hash where it is long."""
    labels: tuple[str, ...] = ()
    """In the order in which the prompt lists them."""
    retrieval: str = "off"
    """The settings of the search, or that there is none."""
    prompt_format: int = 0
    """``agents.prompt.PROMPT_FORMAT``, which changes with Everlearn."""
    engine: str = ""
    """The library that runs the model, with its version."""
    known: bool = True
    """False of an adapter from before there were fingerprints: then this is the task as it was found later."""


TaskPart = Literal["instruction", "labels", "retrieval", "prompt format", "engine"]


@dataclass(frozen=True, kw_only=True)
class TaskDifference:
    """A part of a task that differs, from what to what.

    ``replaces``: whether an adapter may now give an answer that is none of the task's, so that it should not serve.
    """

    part: TaskPart
    before: str
    after: str
    replaces: bool = False

    def __str__(self) -> str:
        return f"{self.part}: from {self.before} to {self.after}"


def fingerprint_of(task: Task, *, prompt_format: int, engine: str) -> TaskFingerprint:
    """Returns the fingerprint of a task as it is now."""
    searched = ("top_k", "min_score", "mode", "chunk_tokens", "overlap_tokens")
    values = [(name, getattr(task, name)) for name in searched]
    return TaskFingerprint(
        instruction=_excerpt(spaced(task.instruction)),
        labels=tuple(map(spaced, task.labels)),
        retrieval=", ".join(f"{name} {value}" for name, value in values if value is not None)
        if task.retrieval
        else "off",
        prompt_format=prompt_format,
        engine=engine,
    )


def differences(before: TaskFingerprint, after: TaskFingerprint) -> tuple[TaskDifference, ...]:
    """Returns what differs, in the order of the parts; empty if nothing does.

    Another instruction replaces the task, and so does a label that is gone. A new label does not, for the answers that
    an adapter knows stay right; nor does another search, prompt format or engine.
    """
    found = []
    if before.instruction != after.instruction:
        texts = _where_they_differ(before.instruction, after.instruction)
        found.append(TaskDifference(part="instruction", before=texts[0], after=texts[1], replaces=True))
    if before.labels != after.labels:
        found.append(_different_labels(before.labels, after.labels))
    if before.retrieval != after.retrieval:
        found.append(TaskDifference(part="retrieval", before=before.retrieval, after=after.retrieval))
    if before.prompt_format != after.prompt_format:
        formats = str(before.prompt_format), str(after.prompt_format)
        found.append(TaskDifference(part="prompt format", before=formats[0], after=formats[1]))
    if before.engine != after.engine:
        found.append(TaskDifference(part="engine", before=before.engine or "none", after=after.engine or "none"))
    return tuple(found)


_LONGEST_EXCERPT = 400
_SHOWN_TEXT = 60
_SHOWN_LABELS = 12


def _excerpt(text: str) -> str:
    """Returns the text if it is short, and else its beginning with a hash of all of it."""
    if len(text) <= _LONGEST_EXCERPT:
        return text
    return f"{text[:_LONGEST_EXCERPT]}… [{len(text)} characters, {sha256(text.encode()).hexdigest()[:12]}]"


def _where_they_differ(before: str, after: str) -> tuple[str, str]:
    """Returns both texts, cut to where they begin to differ."""
    same = next((place for place, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
    start = max(0, same - _SHOWN_TEXT // 3)
    shown = [text[start : start + _SHOWN_TEXT] for text in (before, after)]
    return tuple(  # type: ignore[return-value]  # two texts
        f'"{"…" if start else ""}{part}{"…" if start + _SHOWN_TEXT < len(text) else ""}"'
        for part, text in zip(shown, (before, after), strict=True)
    )


def _different_labels(before: tuple[str, ...], after: tuple[str, ...]) -> TaskDifference:
    gone, new = _missing(before, after), _missing(after, before)
    if not before or not after or not (gone or new):  # any text was or is allowed, or they are in another order
        texts = _named(before) if before else "any text", _named(after) if after else "any text"
        return TaskDifference(part="labels", before=texts[0], after=texts[1], replaces=not before)
    return TaskDifference(
        part="labels",
        before=f"{len(before)} with {_named(gone)}" if gone else f"{len(before)} without {_named(new)}",
        after=f"{len(after)} with {_named(new)}" if new else f"{len(after)} without {_named(gone)}",
        replaces=bool(gone),
    )


def _missing(labels: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the labels that are not among the others, ignoring case."""
    known = {comparable(label) for label in others}
    return tuple(label for label in labels if comparable(label) not in known)


def _named(labels: tuple[str, ...]) -> str:
    more = len(labels) - _SHOWN_LABELS
    return ", ".join(map(repr, labels[:_SHOWN_LABELS])) + (f" and {more} more" if more > 0 else "")


def unknown_task(name: str, tasks: Iterable[str]) -> str:
    """Returns the message for a task that is not configured: one line, with the configured tasks."""
    known = ", ".join(sorted(tasks))
    remedy = f"choose from {known}" if known else "add it with 'everlearn tasks add'"
    return f"there is no task {name!r}: {remedy}"
