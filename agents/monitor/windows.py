"""Divides a task's answers into a reference window and overlapping current windows, and summarizes a window."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.drift import RATED
from schemas.features import Interaction
from schemas.learning import Window
from schemas.policies import MonitorPolicy
from schemas.tasks import Task
from schemas.words import label_of as meant_label

BAD = frozenset({"disapproved", "corrected"})
OTHER = "(other)"
NOTHING_FOUND = -1.0
"""The top score of an answer without sources: the lowest possible cosine similarity."""
_SHOWN_OPENINGS = 8
_SESSION = 10
_MONDAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """``currents``: the newest window first, and within a window the oldest answer first.

    ``currents`` is empty while there are too few answers. ``rest_rows``: how many of the newest answers are not in the
    reference.
    """

    reference: Sequence[Interaction]
    currents: tuple[Sequence[Interaction], ...]
    rest_rows: int


def make_windows(first: Sequence[Interaction], newest: Sequence[Interaction], policy: MonitorPolicy) -> Windows:
    """Makes the windows of a check.

    ``first`` and ``newest``: the first and the newest answers since the baseline, ``policy.read_rows`` of each. There
    may be fewer of both, and the two may overlap. Both have the oldest answer first.

    The reference grows with the answers, up to ``longest_reference_rows``: it is their first half. So a change is seen
    well that comes after a long time, and one that comes early is not in the reference before there are twice as many
    answers.
    """
    known = {row.answer_id for row in first}
    answers = len(first) + sum(row.answer_id not in known for row in newest)
    reference = first[: max(policy.reference_rows, min(policy.longest_reference_rows, answers // 2))]
    known = {row.answer_id for row in reference}
    rest = [row for row in newest if row.answer_id not in known]
    ends = [len(rest) - number * policy.every_rows for number in range(policy.of)]
    currents = tuple(
        rest[max(0, end - policy.longest_current_rows) : end] for end in ends if end >= policy.current_rows
    )
    return Windows(reference=reference, currents=currents, rest_rows=len(rest))


def unit_of(row: Interaction, number: int) -> str:
    """Returns whose row it is, where a window's rows count by people: the rater, or else a few neighbouring rows.

    ``number``: the row's place among the rows. Ten rows in a row of nobody in particular count as one session.
    """
    return row.rater or f"rows:{number // _SESSION}"


def seconds_of(row: Interaction) -> float:
    """Returns when the answer was given, in seconds since a Monday, 0:00 UTC."""
    return (row.answered_at - _MONDAY).total_seconds() if row.answered_at is not None else 0.0


def span(rows: Sequence[Interaction], at: datetime) -> Window:
    """Returns the window's times and size. An empty window begins and ends at ``at``."""
    times = [row.answered_at for row in rows if row.answered_at is not None] or [at]
    return Window(start=min(times), end=max(times), rows=len(rows))


def is_failed(row: Interaction) -> bool:
    return row.outcome == "failed"


def is_rated(row: Interaction) -> bool:
    """Whether a user has rated the answer.

    Failures do not count. They are known at once and ratings come late, so with failures among the ratings every fresh
    window would look bad.
    """
    return row.outcome in RATED


def is_bad(row: Interaction) -> bool:
    return row.outcome in BAD


def is_declined(row: Interaction) -> bool:
    """Whether no document was relevant enough to answer from."""
    return bool(row.declined)


def label_of(row: Interaction, task: Task) -> str:
    """Returns the label that the answer equals, ignoring case, or ``(other)``."""
    return meant_label(row.answer or "", task.labels) or OTHER


def top_score(row: Interaction) -> float:
    """Returns the cosine similarity of the best source."""
    return max((float(source.get("score") or 0.0) for source in row.sources), default=NOTHING_FOUND)


def figures(rows: Sequence[Interaction]) -> dict[str, float]:
    """Counts the window's rated, bad, corrected and failed answers."""
    return {
        "rated": float(sum(map(is_rated, rows))),
        "bad": float(sum(map(is_bad, rows))),
        "corrected": float(sum(row.outcome == "corrected" for row in rows)),
        "failed": float(sum(map(is_failed, rows))),
    }


def described(
    reference: Sequence[Interaction], current: Sequence[Interaction], task: Task
) -> tuple[dict[str, list[float | None]], dict[str, list[str]]]:
    """Returns what a report describes of each row, reference rows first: columns of numbers, and columns of names."""
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
    """Returns the first two words of each answer where they are frequent, and ``(other)`` elsewhere."""
    openings = [" ".join((row.answer or "").split()[:2]).casefold() for row in rows]
    frequent = {opening for opening, _ in Counter(filter(None, openings)).most_common(_SHOWN_OPENINGS)}
    return [opening if opening in frequent else OTHER for opening in openings]
