"""Makes the columns that a check tests for drift, and remembers what each test found in each current window.

A detector gives a test the numbers of the rows that count. By these numbers the test finds who asked, when, and what it
compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.monitor import windows
from agents.monitor.differences import (
    UNSEEN,
    Asked,
    Difference,
    Doubles,
    Floats,
    Integers,
    mix_changed,
    nearest,
    novel,
    novelty,
    rose,
    strata,
)
from schemas.drift import CheckedColumn, ColumnTest, Finding
from schemas.features import Interaction
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

METHOD = "Everlearn: self-normalized sum over users"

Embeddings = Mapping[str, Floats]
"""Each answer's question as a vector of length 1, by answer id."""
Numbers = Sequence[int]
Values = Sequence[float | None] | Sequence[str | None]
Compare = Callable[[Doubles, Asked, int], tuple[Difference, str]]
"""Compares the reference with the windows that end before a row: a difference, and a sentence about it. It gets a value
for each row, NaN where a row does not count."""


class Examination:
    """What a check tests: the rows of all its windows, and the columns of these rows.

    ``rows``: the reference, and then each answer of the current windows once, the oldest first. ``nearest``: each row's
    cosine similarity to the most similar question that somebody else asked in the reference. ``novel``: which rows'
    questions are new. ``seen``: which rows are from hours that the reference has seen. ``columns``: what a detector is
    to test.
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
        self._ends = [numbers[window[-1].answer_id] + 1 for window in found.currents]
        self._vectors = np.vstack([embeddings[row.answer_id] for row in self.rows])
        self._task, self._policy = task, policy
        self._found: dict[str, list[tuple[Difference, str]]] = {}
        self._asked = Asked(
            units=_codes([windows.unit_of(row, number) for number, row in enumerate(self.rows)]),
            texts=_codes([row.asked for row in self.rows]),
            strata=strata(np.array([windows.seconds_of(row) for row in self.rows]), self.reference_rows),
            reference_rows=self.reference_rows,
            shortest=policy.current_rows,
            longest=policy.longest_current_rows,
        )
        self.seen = self._asked.strata != UNSEEN
        self.nearest = nearest(self._vectors, self._asked.units, self.reference_rows)
        self._novelty = novelty(self.nearest, self.reference_rows)
        self.novel = novel(self._novelty)
        tested = self._tested()
        self.columns = [
            CheckedColumn(
                kind=kind,
                values=shown,
                test=self._test(kind, values, compare),
                threshold=policy.alpha / len(tested),
                method=METHOD,
            )
            for kind, (shown, values, compare) in tested.items()
        ]

    @property
    def reference(self) -> Sequence[Interaction]:
        """The answers of the reference, the oldest first."""
        return self.rows[: self.reference_rows]

    @property
    def current(self) -> Sequence[Interaction]:
        """The answers of all current windows, the oldest first."""
        return self.rows[self.reference_rows :]

    def likeness(self, one: int, other: int) -> float:
        """Returns the cosine similarity of two rows' questions."""
        return float(self._vectors[one] @ self._vectors[other])

    def newest(self, kinds: Sequence[str] = ()) -> range:
        """Returns the numbers of the newest rows in which these kinds differ most, or of the shortest window's."""
        count = max([self._policy.current_rows, *(self._found[kind][0][0].rows for kind in kinds)])
        return range(max(self.reference_rows, len(self.rows) - count), len(self.rows))

    def p_worse(self, numbers: Numbers) -> float:
        """Returns how likely it is by chance that current rows with these numbers are rated so much worse than the
        reference."""
        rated = [windows.is_rated(row) for row in self.rows]
        chosen = [number for number in [*range(self.reference_rows), *numbers] if rated[number]]
        values = np.full(len(self.rows), np.nan)
        values[chosen] = [windows.is_bad(self.rows[number]) for number in chosen]
        everything = replace(self._asked, shortest=len(self.current), longest=len(self.current))
        return rose(values, everything, len(self.rows)).p_value

    def findings(self) -> tuple[tuple[Finding, ...], ...]:
        """Returns what the tests found in each current window, the newest first. A detector must have run them."""
        return tuple(
            tuple(_finding(column, *self._found[column.kind][place]) for column in self.columns)
            for place in range(len(self._ends))
        )

    def _test(self, kind: str, values: Doubles, compare: Compare) -> ColumnTest:
        """Makes a column's test. Its score is the p-value that ``policy.flags`` of the current windows reach.

        By Markov's inequality, without drift the score is at most a threshold t with a probability of
        ``t * of / flags`` at most, however strongly the windows depend on each other through the answers that they
        share and through their common reference.
        """
        flags = self._policy.flags

        def score(before: Numbers, now: Numbers) -> float:
            if kind not in self._found:  # a detector may ask several times
                counted = np.full(len(values), np.nan)
                counted[[*before, *now]] = values[[*before, *now]]
                self._found[kind] = [compare(counted, self._asked, end) for end in self._ends]
            reached = sorted(difference.p_value for difference, _ in self._found[kind])
            return reached[flags - 1] if flags <= len(reached) else 1.0

        return score

    def _tested(self) -> dict[str, tuple[Values, Doubles, Compare]]:
        """Returns by kind the columns that make sense for the task: what is shown, what is compared, and how."""
        rows, task = self.rows, self._task
        failed = [windows.is_failed(row) for row in rows]
        rated = [windows.is_bad(row) if windows.is_rated(row) else None for row in rows]
        tested: dict[str, tuple[Values, Doubles, Compare]] = {
            "questions": (self.nearest.tolist(), self._novelty, _novelty),
            "outcomes": _cases(rated, "bad", "good", "bad answers among rated ones"),
            "failures": _cases(failed, "failed", "answered", "failed answers"),
        }
        if task.labels:
            labels = [None if gone else windows.label_of(row, task) for gone, row in zip(failed, rows, strict=True)]
            tested["answers"] = labels, _codes([label or "" for label in labels]).astype(np.float64), _labels
        if task.retrieval:
            scores = [None if gone else windows.top_score(row) for gone, row in zip(failed, rows, strict=True)]
            declined = [None if gone else windows.is_declined(row) for gone, row in zip(failed, rows, strict=True)]
            tested["sources"] = scores, _numbers(scores), _scores
            tested["declined"] = _cases(declined, "declined", "answered", "declined questions")
        return tested


def _finding(column: CheckedColumn, difference: Difference, detail: str) -> Finding:
    return Finding(
        kind=column.kind,
        p_value=difference.p_value,
        effect=difference.effect,
        flagged=difference.p_value <= column.threshold,
        detail=detail,
    )


def _novelty(values: Doubles, asked: Asked, end: int) -> tuple[Difference, str]:
    difference = rose(values, asked, end)
    now, before = _sides(values, asked, end, difference.rows)
    shares = [float(novel(side).mean()) if len(side) else 0.0 for side in (now, before)]
    return difference, f"{shares[0]:.0%} of the questions are new to the other users, after {shares[1]:.0%}"


def _labels(values: Doubles, asked: Asked, end: int) -> tuple[Difference, str]:
    difference = mix_changed(np.nan_to_num(values, nan=-1.0).astype(np.int64), asked, end)
    return difference, f"the share of a label among the answers changed by {abs(difference.effect):.0%}"


def _scores(values: Doubles, asked: Asked, end: int) -> tuple[Difference, str]:
    difference = rose(-values, asked, end)
    now, before = (float(side.mean()) if len(side) else 0.0 for side in _sides(values, asked, end, difference.rows))
    return difference, f"the best source's similarity (cosine) went from {before:.2f} to {now:.2f} in the mean"


def _cases(are: Sequence[bool | None], case: str, other: str, name: str) -> tuple[Values, Doubles, Compare]:
    """Returns a column of cases, whose rate may rise."""

    def compare(values: Doubles, asked: Asked, end: int) -> tuple[Difference, str]:
        difference = rose(values, asked, end)
        now, before = _sides(values, asked, end, difference.rows)
        if not len(before) or not len(now):
            return difference, f"{name}: none to compare"
        words = f"{name} went from {before.mean():.0%} ({before.sum():.0f} of {len(before)}) to {now.mean():.0%}"
        return difference, f"{words} ({now.sum():.0f} of {len(now)})"

    shown = [None if each is None else case if each else other for each in are]
    return shown, _numbers([None if each is None else float(each) for each in are]), compare


def _sides(values: Doubles, asked: Asked, end: int, rows: int) -> tuple[Doubles, Doubles]:
    """Returns the values of so many rows before ``end``, or of the fewest, and those of the reference."""
    now, before = (
        values[max(asked.reference_rows, end - (rows or asked.shortest)) : end],
        values[: asked.reference_rows],
    )
    return now[~np.isnan(now)], before[~np.isnan(before)]


def _numbers(values: Sequence[float | None]) -> Doubles:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _codes(names: Sequence[str]) -> Integers:
    """Returns a number for each name, equal ones for equal names."""
    codes: Integers = np.unique(np.array(names), return_inverse=True)[1].astype(np.int64)
    return codes
