"""Tests whether two windows differ, when a few people ask most of the questions, in sessions and more than once.

**The unit** of every test is whoever asks: a user, or else a session. Without drift, what one unit adds to a difference
may as well have the opposite sign: had the unit's questions of the two windows come the other way round, or had the
unit come in the other window, nothing else would have changed. Rows of one unit are not independent of each other, and
nothing is assumed about them. So a difference is divided by the root of the sum of the units' squares, and not by the
error of that many independent rows. For symmetric units, the tail of such a self-normalized sum z is at most
3.18 (1 - Phi(z)), whatever their number and their sizes (Pinelis, Annals of Statistics 22, 1994; the constant is that
of Bentkus and Dzindzalieta, Bernoulli 21, 2015). Few units cannot differ significantly at all: z is at most the root of
their number.

**Repeats** of a question by one unit within a window count once. A row of a unit with n rows weighs 1 / (1 + 0.1 (n - 1)),
so no unit weighs more than ten rows.

**Hours.** Rows are compared within strata of the week (``strata``): the reference is weighted so that each stratum has
the same share in both windows. Rows of hours that the reference has not seen are not compared.

**Looking back.** A change is seen best in a window that begins with it, so each test looks at the newest rows, at twice
as many, and so on, with Bonferroni's correction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

MOST_ROWS = 2000
"""The most reference rows that questions are compared with, evenly sampled: their cost is quadratic."""
UNSEEN = -1
"""The stratum of hours that the reference has not seen."""
_ALIKE = 0.1
"""How much the rows of one unit resemble each other: the intraclass correlation that the weights assume."""
_NOVEL = 0.05
"""The share of the reference questions that are novel to the other people of the reference, by definition."""
_TAIL = 3.18
_FEWEST_SEEN = 10
_DAY = 86_400.0
_BLOCK = 4 * 3600.0
_BLOCKS = 6
_GRACE = 3600.0
_PORTION_CELLS = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``p_value``: an upper bound of the probability of such a difference without drift. ``effect``: its size, in the
    test's unit. ``rows``: how many of the newest rows it was found in."""

    p_value: float
    effect: float
    rows: int = 0


NOTHING = Difference(p_value=1.0, effect=0.0)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who asked what and when, a row each, in the order of time; the reference rows come first.

    ``units``: who asked. ``texts``: which question. ``strata``: from ``strata``. ``shortest``: the fewest of the newest
    rows that are looked at.
    """

    units: Integers
    texts: Integers
    strata: Integers
    reference_rows: int
    shortest: int

    @property
    def looks(self) -> list[int]:
        """How many of the newest rows are looked at: the fewest, twice as many, and so on."""
        current = len(self.units) - self.reference_rows
        doublings = int(np.log2(current / self.shortest)) if current >= self.shortest else -1
        return [self.shortest * 2**each for each in range(doublings + 1)]

    def weights(self, counts: Flags, rows: int) -> tuple[Integers, Doubles]:
        """Returns the rows that are compared and their weights, for the newest so many rows.

        ``counts``: which rows say anything. The weights of the current rows sum to 1, and those of the reference rows to
        -1. Both are empty if nothing can be compared.
        """
        begins = len(self.units) - rows
        before = np.flatnonzero(counts[: self.reference_rows])
        now = begins + np.flatnonzero(counts[begins:])
        seen = np.unique(self.strata[before][self.strata[before] != UNSEEN])
        both = np.intersect1d(seen, self.strata[now])
        chosen, weights = [], []
        for side in (before, now):
            side = side[np.isin(self.strata[side], both)]
            pairs = self.units[side] * (int(self.texts.max(initial=0)) + 1) + self.texts[side]
            side = side[np.sort(np.unique(pairs, return_index=True)[1])]
            of_unit = np.bincount(self.units[side], minlength=1)[self.units[side]]
            chosen.append(side)
            weights.append(1 / (1 + _ALIKE * (of_unit - 1)))
        if not len(chosen[0]) or not len(chosen[1]):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        shares = [np.bincount(self.strata[side], weight) for side, weight in zip(chosen, weights, strict=True)]
        scale = np.divide(shares[1], shares[0], out=np.zeros(len(shares[1])), where=shares[0] > 0)
        weights[0] = weights[0] * scale[self.strata[chosen[0]]]
        return np.concatenate(chosen), np.concatenate([-weights[0] / weights[0].sum(), weights[1] / weights[1].sum()])


def rose(values: Doubles, asked: Asked, *, least: float = 0.0) -> Difference:
    """Tests whether the mean of values rose, one-sided. Effect: the rise.

    ``values``: one a row, NaN for rows that say nothing. ``least``: a smaller rise is no difference, however certain.
    """
    counts = ~np.isnan(values)
    looks = asked.looks
    found = [replace(_rise(values, asked, counts, rows), rows=rows) for rows in looks]
    found = [each if each.effect >= least else replace(each, p_value=1.0) for each in found]
    if not found:
        return NOTHING
    best = min(found, key=lambda each: each.p_value)
    return replace(best, p_value=min(1.0, len(looks) * best.p_value))


def mix_changed(kinds: Integers, asked: Asked, *, least: float = 0.0) -> Difference:
    """Tests whether the share of any kind rose or fell. Effect: the largest change of a share.

    ``kinds``: one a row, negative for rows that say nothing.
    """
    names = np.unique(kinds[kinds >= 0])
    if len(names) < 2:
        return NOTHING
    found = []
    for name in names:
        share = np.where(kinds < 0, np.nan, kinds == name)
        found += [rose(share, asked, least=least), rose(-share, asked, least=least)]
    best = min(found, key=lambda each: each.p_value)
    return replace(best, p_value=min(1.0, len(found) * best.p_value))


def nearest(vectors: Floats, units: Integers, reference_rows: int) -> Floats:
    """Returns each question's cosine similarity to the most similar one that somebody else asked in the reference.

    ``vectors``: unit vectors, shape (rows, dimension), the reference rows first. Only what *other* people asked is
    compared, so that somebody's own topics are as unfamiliar before as after. Without other people it is -1.
    """
    known = used_rows(reference_rows)
    found = np.empty(len(vectors), dtype=np.float32)
    size = max(1, _PORTION_CELLS // max(1, len(known)))  # all pairs at once would not fit into the memory
    for start in range(0, len(vectors), size):
        portion = slice(start, start + size)
        similarity = vectors[portion] @ vectors[known].T
        similarity[units[portion][:, None] == units[known]] = -1.0
        found[portion] = similarity.max(axis=1)
    return found


def novel(similarity: Floats, reference_rows: int) -> Flags:
    """Returns which questions nobody else has asked before, in any words. ``similarity``: from ``nearest``.

    A question is novel when it is less similar to the reference than 95 % of the reference's questions are.
    """
    found: Flags = similarity < np.quantile(similarity[:reference_rows], _NOVEL)
    return found


def strata(seconds: Doubles, reference_rows: int) -> Integers:
    """Returns each row's part of the week: one of six parts of the day, on a working day or at a weekend.

    ``seconds``: of each row, since a Monday at midnight, the reference rows first. Parts with fewer than ten reference
    rows are ``UNSEEN``; but what comes within an hour after the reference belongs to the same part as its end.
    """
    weekend = (seconds // _DAY % 7 >= 5).astype(np.int64)
    parts = weekend * _BLOCKS + (seconds % _DAY // _BLOCK).astype(np.int64)
    if not 0 < reference_rows < len(seconds):
        return parts
    seen = np.bincount(parts[:reference_rows], minlength=2 * _BLOCKS) >= _FEWEST_SEEN
    last = parts[reference_rows - 1]
    soon = (seconds > seconds[reference_rows - 1]) & (seconds <= seconds[reference_rows - 1] + _GRACE)
    return np.where(seen[parts], parts, np.where(soon & seen[last], last, UNSEEN))


def greatest_similarity(reference: Floats, current: Floats) -> Floats:
    """Returns each current question's cosine similarity to the most similar reference question; for unit vectors."""
    size = max(1, _PORTION_CELLS // max(1, len(reference)))  # all pairs at once would not fit into the memory
    portions = [(current[start : start + size] @ reference.T).max(axis=1) for start in range(0, len(current), size)]
    found: Floats = np.concatenate(portions)
    return found


def rejected(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Returns which null hypotheses Holm's method rejects; any true one with probability at most ``alpha`` (Holm
    1979)."""
    flags = [False] * len(p_values)
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for number, index in enumerate(order):
        if p_values[index] > alpha / (len(p_values) - number):
            break
        flags[index] = True
    return flags


def used_rows(count: int, most: int = MOST_ROWS) -> list[int]:
    """Returns which of so many rows are used where the cost is quadratic: at most so many, evenly spaced."""
    if count <= most:
        return list(range(count))
    indices: list[int] = np.linspace(0, count - 1, most).astype(int).tolist()
    return indices


def _rise(values: Doubles, asked: Asked, counts: Flags, rows: int) -> Difference:
    from scipy.special import ndtr

    chosen, weights = asked.weights(counts, rows)
    if not len(chosen):
        return NOTHING
    # Under the null hypothesis both windows have one mean; the units' parts are taken around it.
    around = values[chosen] - np.abs(weights) @ values[chosen] / 2
    parts = np.bincount(asked.units[chosen], weights * around)
    spread = float(np.sqrt((parts**2).sum()))
    effect = float(weights @ values[chosen])
    if not spread:
        return replace(NOTHING, effect=effect)
    return Difference(p_value=min(1.0, _TAIL * float(ndtr(-parts.sum() / spread))), effect=effect)
