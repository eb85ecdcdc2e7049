"""Makes the columns that a check tests for drift, and remembers what each test found in each current window.

A detector gives a test the numbers of the rows that count. By these numbers the test finds the rows' embeddings and
whatever else it compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from agents.monitor import windows
from agents.monitor.differences import (
    Difference,
    Floats,
    kinds_differ,
    questions_differ,
    rate_rose,
    splits_for,
    used_rows,
    values_fell,
)
from schemas.drift import CheckedColumn, ColumnTest, Finding
from schemas.features import Interaction
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

COMPARED = 10_000
"""How many questions of the reference are compared with each question; those of a larger one are sampled evenly."""
NOVEL_SHARE = 0.05
"""A question is novel if this share of the reference's questions, at most, is as far from the others as it is."""
_PERMUTATION, _EXACT = "Everlearn: permutation test", "Everlearn: Fisher's exact test"
_PORTION_CELLS = 4_000_000

Embeddings = Mapping[str, Floats]
"""Each answer's question as a vector of length 1, by answer id."""
Numbers = Sequence[int]
Compare = Callable[[Numbers, Numbers], tuple[Difference, str]]
"""Compares rows of the reference with rows of one current window: a difference, and a sentence about it."""


class Examination:
    """What a check tests: the rows of all its windows, and the columns of these rows.

    ``rows``: the reference, and then each answer of the current windows once, the oldest first. ``familiarity``: each
    row's greatest cosine similarity to a question of the reference. ``columns``: what a detector is to test.
    """

    def __init__(self, found: windows.Windows, embeddings: Embeddings, task: Task, policy: MonitorPolicy) -> None:
        """There must be at least one current window.

        The threshold of each column is ``policy.alpha`` divided by their number, so without drift a window is flagged
        for anything with a probability of ``policy.alpha`` at most (Bonferroni).
        """
        rest = list({row.answer_id: row for window in reversed(found.currents) for row in window}.values())
        self.rows: Sequence[Interaction] = [*found.reference, *rest]
        self.reference_rows = len(found.reference)
        numbers = {row.answer_id: number for number, row in enumerate(self.rows)}
        self._windows = [range(numbers[each[0].answer_id], numbers[each[-1].answer_id] + 1) for each in found.currents]
        self._vectors = np.vstack([embeddings[row.answer_id] for row in self.rows])
        self._task, self._policy = task, policy
        self._splits = splits_for(policy.alpha)
        self._found: dict[str, list[tuple[Difference, str]]] = {}
        self.familiarity = _familiarity(self.rows, self._vectors, self.reference_rows)
        tested = self._tested()
        self.columns = [
            CheckedColumn(
                kind=kind,
                values=values,
                test=self._test(kind, compare),
                threshold=policy.alpha / len(tested),
                method=method,
            )
            for kind, (values, compare, method) in tested.items()
        ]

    @property
    def current(self) -> Sequence[Interaction]:
        """The answers of all current windows, the oldest first."""
        return self.rows[self.reference_rows :]

    def novel(self) -> list[int]:
        """Returns the numbers of the current rows whose questions are novel."""
        before = {row.question: self.familiarity[place] for place, row in enumerate(self.rows[: self.reference_rows])}
        limit = np.quantile(list(before.values()), NOVEL_SHARE)
        return [place for place in range(self.reference_rows, len(self.rows)) if self.familiarity[place] < limit]

    def likeness(self, one: int, other: int) -> float:
        """Returns the cosine similarity of two rows' questions."""
        return float(self._vectors[one] @ self._vectors[other])

    def findings(self) -> tuple[tuple[Finding, ...], ...]:
        """Returns what the tests found in each current window, the newest first. A detector must have run them."""
        return tuple(
            tuple(self._finding(column, *self._found[column.kind][place]) for column in self.columns)
            for place in range(len(self._windows))
        )

    def _finding(self, column: CheckedColumn, difference: Difference, detail: str) -> Finding:
        return Finding(
            kind=column.kind,
            p_value=difference.p_value,
            effect=difference.effect,
            flagged=difference.p_value <= column.threshold,
            detail=detail,
        )

    def _test(self, kind: str, compare: Compare) -> ColumnTest:
        """Makes a column's test. Its score is the p-value that ``policy.flags`` of the current windows reach.

        By Markov's inequality, without drift the score is at most a threshold t with a probability of
        ``t * of / flags`` at most, however strongly the windows depend on each other through the answers that they
        share and through their common reference.
        """
        flags = self._policy.flags

        def score(before: Numbers, now: Numbers) -> float:
            if kind not in self._found:  # a detector may ask several times
                self._found[kind] = [compare(before, [each for each in now if each in span]) for span in self._windows]
            reached = sorted(difference.p_value for difference, _ in self._found[kind])
            return reached[flags - 1] if flags <= len(reached) else 1.0

        return score

    def _tested(self) -> dict[str, tuple[Sequence[float | None] | Sequence[str | None], Compare, str]]:
        """Returns the values, the comparison and the method of each column that makes sense for the task, by kind."""
        rows, task = self.rows, self._task
        rated = [("bad" if windows.is_bad(row) else "good") if windows.is_rated(row) else None for row in rows]
        failed = ["failed" if windows.is_failed(row) else "answered" for row in rows]
        tested: dict[str, tuple[Sequence[float | None] | Sequence[str | None], Compare, str]] = {
            "questions": ([float(each) for each in self.familiarity], self._questions, _PERMUTATION),
            "outcomes": (rated, self._rates(windows.is_bad, "bad answers among rated ones"), _EXACT),
            "failures": (failed, self._rates(windows.is_failed, "failed answers"), _EXACT),
        }
        if task.labels:
            labels = [None if windows.is_failed(row) else windows.label_of(row, task) for row in rows]
            tested["answers"] = labels, self._labels, _PERMUTATION
        if task.retrieval:
            scores = [None if windows.is_failed(row) else windows.top_score(row) for row in rows]
            declined = [None if windows.is_failed(row) else "declined" if row.declined else "answered" for row in rows]
            tested["sources"] = scores, self._scores, _PERMUTATION
            tested["declined"] = declined, self._rates(windows.is_declined, "declined questions"), _EXACT
        return tested

    def _questions(self, before: Numbers, now: Numbers) -> tuple[Difference, str]:
        difference = questions_differ(self._vectors[list(before)], self._vectors[list(now)], self._splits)
        return difference, f"{difference.effect:.0%} of the questions are unlike any in the reference (5 % is normal)"

    def _labels(self, before: Numbers, now: Numbers) -> tuple[Difference, str]:
        first, second = ([windows.label_of(self.rows[each], self._task) for each in some] for some in (before, now))
        difference = kinds_differ(first, second, self._splits)
        return difference, f"{difference.effect:.0%} of the answers went to other labels"

    def _scores(self, before: Numbers, now: Numbers) -> tuple[Difference, str]:
        first, second = ([windows.top_score(self.rows[each]) for each in some] for some in (before, now))
        difference = values_fell(first, second, self._splits)
        return difference, f"the median best source is {difference.effect:+.2f} less similar (cosine)"

    def _rates(self, is_case: Callable[[Interaction], bool], name: str) -> Compare:
        def compare(before: Numbers, now: Numbers) -> tuple[Difference, str]:
            first, second = (sum(is_case(self.rows[each]) for each in some) for some in (before, now))
            difference = rate_rose((first, len(before)), (second, len(now)))
            if not before or not now:
                return difference, f"{name}: none to compare"
            words = f"{name} went from {first / len(before):.0%} ({first} of {len(before)}) to {second / len(now):.0%}"
            return difference, f"{words} ({second} of {len(now)})"

        return compare


def _familiarity(rows: Sequence[Interaction], vectors: Floats, reference_rows: int) -> NDArray[np.float32]:
    """Returns each row's greatest cosine similarity to a question of the reference.

    A question of the reference is compared with those that are not the same text.
    """
    texts = [row.question or "" for row in rows]
    first = {texts[number]: number for number in reversed(range(reference_rows))}
    distinct = sorted(first.values())
    kept = [distinct[place] for place in used_rows(len(distinct), COMPARED)]
    place = {texts[number]: column for column, number in enumerate(kept)}
    known = vectors[kept]
    found = np.full(len(rows), -1.0, dtype=np.float32)
    size = max(1, _PORTION_CELLS // max(1, len(known)))
    for start in range(0, len(rows), size):
        similarity = vectors[start : start + size] @ known.T
        for offset in range(min(start + size, reference_rows) - start):
            own = place.get(texts[start + offset])
            if own is not None:
                similarity[offset, own] = -1.0
        found[start : start + size] = similarity.max(axis=1, initial=-1.0)
    return found
