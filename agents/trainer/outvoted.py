"""Finds raters whose labels contradict what others say of similar inputs, such as one who swaps the labels of a class.

Each row of feedback is compared with the rows of others that are most like it. A rater who is against them far more
often than raters usually are, on all rows or on those of one class, teaches nothing this time. A rater's own rows are
no witnesses for that rater. So it takes several raters to outvote one, and a minority cannot.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import bdtrc

from agents.trainer.candidates import Candidate
from agents.trainer.likeness import Likeness
from agents.trainer.quarantine import Sorted
from schemas.datasets import QuarantinedRow

NEIGHBOURS = 9
"""The rows of others that a row is compared with."""
LIKE = 0.1
"""Rows that are less similar (cosine) say nothing about each other."""
CHANCE = 1e-3
"""A rater is outvoted if so much contradiction has at most this probability for a usual rater."""
NOVEL = 5
"""A label of which the champion learned fewer rows is new. Its rows do not witness against it."""
LEAST_USUAL = 0.05
"""Nobody is taken for more exact than this."""

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class _Comparison:
    """A row of feedback, the label that similar rows have, and whether that is another one."""

    candidate: Candidate
    expected: str

    @property
    def against(self) -> bool:
        return self.candidate.row.output != self.expected


def outvoted(candidates: Sequence[Candidate]) -> Sorted:
    """Takes out all new rows of raters who systematically contradict their rows' neighbours. For tasks with labels.

    It is repeated without them, because they were witnesses and made contradiction look usual.
    """
    remaining, quarantined = list(candidates), list[QuarantinedRow]()
    while gone := _contradicting(remaining):
        out = [each for each in remaining if not each.kept and each.is_somebodys and each.unit in gone]
        quarantined += [each.quarantined("outvoted", gone[each.unit]) for each in out]
        remaining = [each for each in remaining if each.kept or not each.is_somebodys or each.unit not in gone]
    return remaining, quarantined


def _contradicting(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Returns the raters to take out, each with the reason."""
    by_rater: dict[str, list[_Comparison]] = defaultdict(list)
    for comparison in _comparisons(candidates):
        by_rater[comparison.candidate.unit].append(comparison)
    faults = {rater: _fault(rater, by_rater) for rater in by_rater}
    return {rater: fault for rater, fault in faults.items() if fault is not None}


def _fault(rater: str, by_rater: Mapping[str, Sequence[_Comparison]]) -> str | None:
    """Says how a rater contradicts neighbours, on all rows or on those of one class; None if as others do."""
    classes: dict[str | None, list[_Comparison]] = defaultdict(list)
    for each in by_rater[rater]:
        classes[None].append(each)
        classes[each.expected].append(each)
    for label, rows in classes.items():
        against = sum(each.against for each in rows)
        if 2 * against <= len(rows) or LEAST_USUAL**against > CHANCE:
            continue
        rates = [_rate(theirs, label) for other, theirs in by_rater.items() if other != rater]
        known = [rate for rate in rates if rate is not None]
        # Each rater counts once, so that a few who say much do not make their contradiction usual.
        usual = max(LEAST_USUAL, sum(known) / len(known)) if known else LEAST_USUAL
        if _at_least(against, len(rows), usual) <= CHANCE:
            about = f" that look like {label!r}" if label is not None else ""
            return f"against others on {against} of {len(rows)} rows{about}; usual is {usual:.0%}"
    return None


def _rate(compared: Sequence[_Comparison], label: str | None) -> float | None:
    """How often a rater is against neighbours, of all rows or of a class; None without such rows."""
    rows = [each.against for each in compared if label in (None, each.expected)]
    return sum(rows) / len(rows) if rows else None


def _at_least(found: int, of: int, rate: float) -> float:
    """The probability of ``found`` or more among ``of`` by chance, where each has this probability (binomial)."""
    return float(bdtrc(found - 1, of, rate))


def _comparisons(candidates: Sequence[Candidate]) -> list[_Comparison]:
    judged = [place for place, each in enumerate(candidates) if each.is_somebodys and not each.kept]
    if not judged:
        return []
    learned = Counter(each.row.output for each in candidates if each.kept or each.circle == "trusted")
    numbers: dict[str, int] = {}
    units = np.array([numbers.setdefault(each.unit, len(numbers)) for each in candidates])
    new = np.array([each.is_somebodys and not each.kept for each in candidates])
    found = []
    likeness = Likeness([each.row.input_key for each in candidates])
    for place, similar in likeness.similarities(judged):
        row = candidates[place].row
        usable = (units != units[place]) & (similar >= LIKE)
        if learned[row.output] < NOVEL:
            usable &= new
        expected = _expected(candidates, np.flatnonzero(usable), similar, new)
        if expected is not None:
            found.append(_Comparison(candidates[place], expected))
    return found


def _expected(candidates: Sequence[Candidate], usable: Numbers, similar: Numbers, new: Numbers) -> str | None:
    """The label that the nearest usable rows have, by their similarity; None where there are none."""
    near: list[int] = []
    heard: set[str] = set()
    for each in usable[np.argsort(-similar[usable], kind="stable")]:
        if new[each] and candidates[each].unit in heard:
            continue  # a rater witnesses once, by the row that is most like this one
        near.append(int(each))
        if new[each]:
            heard.add(candidates[each].unit)
        if len(near) == NEIGHBOURS:
            break
    votes: dict[str, float] = defaultdict(float)
    for each in near:
        votes[candidates[each].row.output] += float(similar[each]) ** 2
    return max(sorted(votes), key=lambda label: votes[label]) if votes else None
