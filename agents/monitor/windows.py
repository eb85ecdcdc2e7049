"""Cuts a task's answers into the reference window and successive current ones, and says what a window holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.drift import RATED
from schemas.features import Interaction
from schemas.learning import Window
from schemas.tasks import Task

BAD = frozenset({"disapproved", "corrected"})
OTHER = "(other)"
NOTHING_FOUND = -1.0
"""The top score of an answer without sources: the least that cosine similarity can be."""
_SHOWN_OPENINGS = 8


@dataclass(frozen=True, kw_only=True)
class WindowPolicy:
    """The first ``reference_rows`` say what is normal. ``of`` windows of ``current_rows`` are held against them.

    The last of those ends with the newest answer, each other one ``every_rows`` answers before the next.
    """

    reference_rows: int
    current_rows: int
    every_rows: int
    of: int

    @property
    def newest_rows(self) -> int:
        """How many of the newest answers the current windows reach back over."""
        return self.current_rows + (self.of - 1) * self.every_rows


@dataclass(frozen=True, kw_only=True)
class Windows:
    """``currents``: newest first, each oldest first within. Empty as long as there are too few answers.

    ``rest_rows``: answers after the reference, as far as the current windows reach back.
    """

    reference: Sequence[Interaction]
    currents: tuple[Sequence[Interaction], ...]
    rest_rows: int


def cut(first: Sequence[Interaction], newest: Sequence[Interaction], policy: WindowPolicy) -> Windows:
    """``first``: the first answers since the baseline, at least ``reference_rows`` if there are so many. ``newest``:
    the newest ``newest_rows``, which may be the same ones in part. Both oldest first."""
    reference = first[: policy.reference_rows]
    known = {row.answer_id for row in reference}
    rest = [row for row in newest if row.answer_id not in known]
    ends = [len(rest) - number * policy.every_rows for number in range(policy.of)]
    currents = tuple(rest[end - policy.current_rows : end] for end in ends if end >= policy.current_rows)
    return Windows(reference=reference, currents=currents, rest_rows=len(rest))


def span(rows: Sequence[Interaction], at: datetime) -> Window:
    """The window's times and size; ``at`` stands for both times of an empty one."""
    times = [row.answered_at for row in rows if row.answered_at is not None] or [at]
    return Window(start=min(times), end=max(times), rows=len(rows))


def is_failed(row: Interaction) -> bool:
    return row.outcome == "failed"


def is_rated(row: Interaction) -> bool:
    """Whether a user has said of the answer that it was good or bad. A failure is told at once and ratings come
    late, so that a failure among ratings would make every fresh window look bad: failures are counted by themselves."""
    return row.outcome in RATED


def is_bad(row: Interaction) -> bool:
    return row.outcome in BAD


def label_of(row: Interaction, task: Task) -> str:
    """The allowed answer that was given, whatever its case; ``(other)`` where it is none."""
    given = (row.answer or "").strip().casefold()
    return next((label for label in task.labels if label.casefold() == given), OTHER)


def top_score(row: Interaction) -> float:
    """Cosine similarity of the best source."""
    return max((float(source.get("score") or 0.0) for source in row.sources), default=NOTHING_FOUND)


def figures(rows: Sequence[Interaction]) -> dict[str, float]:
    """What a window holds, in numbers."""
    return {
        "rated": float(sum(map(is_rated, rows))),
        "bad": float(sum(map(is_bad, rows))),
        "corrected": float(sum(row.outcome == "corrected" for row in rows)),
        "failed": float(sum(map(is_failed, rows))),
    }


def columns(
    reference: Sequence[Interaction], current: Sequence[Interaction], task: Task
) -> tuple[dict[str, list[float | None]], dict[str, list[str]]]:
    """What a report shows of each row, reference rows first: measured columns, and named ones."""
    rows = [*reference, *current]
    measured: dict[str, list[float | None]] = {
        "question, characters": [float(len(row.question or "")) for row in rows],
        "question, words": [float(len((row.question or "").split())) for row in rows],
        "answer, characters": [None if row.answer is None else float(len(row.answer)) for row in rows],
        "answer, tokens": [_number(row.completion_tokens) for row in rows],
        "prompt, tokens": [_number(row.prompt_tokens) for row in rows],
        "latency, ms": [_number(row.latency_ms) for row in rows],
    }
    if task.retrieval:
        measured["best source, cosine"] = [top_score(row) for row in rows]
    named: dict[str, list[str]] = {
        "answer": [label_of(row, task) for row in rows] if task.labels else _openings(rows),
        "outcome": [str(row.outcome) for row in rows],
        "rating": [row.rating or "none" for row in rows],
        "finish reason": [row.finish_reason or "none" for row in rows],
    }
    return measured, named


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _openings(rows: Sequence[Interaction]) -> list[str]:
    """The first two words of each answer, as far as they are among the frequent ones."""
    openings = [" ".join((row.answer or "").split()[:2]).casefold() for row in rows]
    frequent = {opening for opening, _ in Counter(filter(None, openings)).most_common(_SHOWN_OPENINGS)}
    return [opening if opening in frequent else OTHER for opening in openings]
