"""Tests whether two windows differ, when a few people ask most of the questions, in sessions and more than once.

**The unit** of every test is whoever asks: a user, or else a session. Without drift, what one unit adds to a difference
may as well have the opposite sign: had the unit's questions of the two windows come the other way round, or had the
unit come in the other window, nothing else would have changed. Rows of one unit are not independent of each other, and
nothing is assumed about them. So a difference is divided by the root of the sum of the units' squares, and not by the
error of that many independent rows. The tail of such a self-normalized sum of symmetric parts is about normal, whatever
their sizes: at most 3.18 times as heavy (Bentkus and Dzindzalieta, Bernoulli 21, 2015), and lighter in the simulations
of ``benchmarks/drift_rates.py``, which say how often the tests are wrong. A few units are never enough: a difference
counts only if it was raised by six of the current units equally, or by more of them unequally.

**Repeats** of a question by one unit within a window count once. Of a unit with n rows, each weighs
1 / (1 + 0.05 (n - 1)), so no unit weighs more than twenty rows.

**Hours.** Rows are compared within strata of the week (``strata``): the reference is weighted so that each stratum has
the same share in both windows. Rows of hours that the reference has not seen are not compared.

**Looking back.** A change is seen best in a window that begins with it, so each test looks at the newest rows, at twice
as many, and so on, with Bonferroni's correction.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
LEAST = 0.02
"""A smaller change of a share is no difference, however certain it is."""
_ALIKE = 0.05
"""How much the rows of one unit resemble each other: the intraclass correlation that the weights assume."""
_NOVEL = 0.05
"""The share of the reference questions that are novel to the other people of the reference, by definition."""
_FEWEST_UNITS = 6
_FEWEST_SEEN = 3
_DAY, _HOUR = 86_400.0, 3600.0
_PART_HOURS = 4
_PORTION_CELLS = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What a test found.

    ``p_value``: the probability of such a difference without drift, or of a greater one. ``effect``: its size, in the
    unit of the values. ``rows``: how many of the newest rows it was found in.
    """

    p_value: float
    effect: float
    rows: int = 0


NOTHING = Difference(p_value=1.0, effect=0.0)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Who asked what and when, a row each, in the order of time; the reference rows come first.

    ``units``: who asked. ``texts``: which question. ``strata``: from ``strata``. ``shortest`` and ``longest``: the
    fewest and the most of the newest rows that a test looks at.
    """

    units: Integers
    texts: Integers
    strata: Integers
    reference_rows: int
    shortest: int
    longest: int
    _known: dict[tuple[bytes, int, int], tuple[Integers, Doubles]] = field(default_factory=dict, repr=False)

    def looks(self, end: int) -> list[int]:
        """Returns where the windows that end before row ``end`` begin: the shortest one, twice as long, and so on."""
        sizes = [self.shortest]
        while 2 * sizes[-1] <= min(self.longest, end - self.reference_rows):
            sizes.append(2 * sizes[-1])
        return [end - size for size in sizes if end - size >= self.reference_rows]

    def weights(self, counts: Flags, begin: int, end: int) -> tuple[Integers, Doubles]:
        """Returns the rows that are compared and their weights, for the window from row ``begin`` to before ``end``.

        ``counts``: which rows say anything. The weights of the window's rows sum to 1, and those of the reference rows
        to -1. Both are empty if nothing can be compared.
        """
        key = (np.packbits(counts).tobytes(), begin, end)
        if key not in self._known:  # several tests compare the same rows
            self._known[key] = self._weights(counts, begin, end)
        return self._known[key]

    def _weights(self, counts: Flags, begin: int, end: int) -> tuple[Integers, Doubles]:
        before = np.flatnonzero(counts[: self.reference_rows])
        now = begin + np.flatnonzero(counts[begin:end])
        both = np.intersect1d(self.strata[before], self.strata[now])
        both = both[both != UNSEEN]
        if not len(both):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        before, now = (self._once(side[np.isin(self.strata[side], both)]) for side in (before, now))
        weights, weights_now = self._by_unit(before), self._by_unit(now)
        strata = int(both[-1]) + 1
        shares, shares_now = (
            np.bincount(self.strata[side], weight, minlength=strata)
            for side, weight in ((before, weights), (now, weights_now))
        )
        weights = weights * (shares_now / np.where(shares > 0, shares, 1.0))[self.strata[before]]
        return np.concatenate([before, now]), np.concatenate(
            [-weights / weights.sum(), weights_now / weights_now.sum()]
        )

    def _once(self, rows: Integers) -> Integers:
        """Leaves out what a unit asks again."""
        pairs = self.units[rows] * (int(self.texts.max()) + 1) + self.texts[rows]
        return np.asarray(rows[np.sort(np.unique(pairs, return_index=True)[1])])

    def _by_unit(self, rows: Integers) -> Doubles:
        of_unit = np.bincount(self.units[rows])[self.units[rows]]
        return np.asarray(1 / (1 + _ALIKE * (of_unit - 1)))


def rose(values: Doubles, asked: Asked, end: int, *, least: float = LEAST) -> Difference:
    """Tests whether the mean of values rose in the window that ends before row ``end``, one-sided. Effect: the rise.

    ``values``: one a row, NaN for rows that say nothing. ``least``: a smaller rise is no difference, however certain.
    """
    counts = ~np.isnan(values)
    begins = asked.looks(end)
    found = [replace(_rise(values, asked, counts, begin, end), rows=end - begin) for begin in begins]
    found = [each if each.effect >= least else replace(each, p_value=1.0) for each in found]
    if not found:
        return NOTHING
    best = min(found, key=lambda each: each.p_value)
    return replace(best, p_value=min(1.0, len(begins) * best.p_value))


def mix_changed(kinds: Integers, asked: Asked, end: int, *, least: float = LEAST) -> Difference:
    """Tests whether the share of any kind rose or fell. Effect: the largest certain change of a share, as a rise.

    ``kinds``: one a row, negative for rows that say nothing. See ``rose`` for the others.
    """
    names = np.unique(kinds[kinds >= 0])
    found = []
    for name in names if len(names) > 1 else []:
        share = np.where(kinds < 0, np.nan, kinds == name)
        found += [rose(share, asked, end, least=least), rose(-share, asked, end, least=least)]
    if not found:
        return NOTHING
    best = min(found, key=lambda each: each.p_value)
    return replace(best, p_value=min(1.0, len(found) * best.p_value))


def nearest(vectors: Floats, units: Integers, reference_rows: int) -> Floats:
    """Returns each row's cosine similarity to the most similar question that *somebody else* asked in the reference.

    So somebody's own topics are as far from the others' before as after. ``vectors``: unit vectors, shape (rows,
    dimension), the reference rows first. -2 where nobody else asked anything.
    """
    known = used_rows(reference_rows)
    found = np.empty(len(vectors), dtype=np.float32)
    size = max(1, _PORTION_CELLS // max(1, len(known)))  # all pairs at once would not fit into the memory
    for start in range(0, len(vectors), size):
        portion = slice(start, start + size)
        similarity = vectors[portion] @ vectors[known].T
        similarity[units[portion][:, None] == units[known]] = -2.0
        found[portion] = similarity.max(axis=1, initial=-2.0)
    return found


def novelty(similarity: Floats, reference_rows: int) -> Doubles:
    """Returns how novel each row's question is, from 0 to 1: the square of the share of the reference's questions that
    are more similar to what others asked.

    The mean of the reference is a third. The square tells more of new topics than the share of novel questions does,
    of which there are few. ``similarity``: from ``nearest``.
    """
    known = np.sort(similarity[:reference_rows])
    return np.asarray((1 - np.searchsorted(known, similarity, side="right") / reference_rows) ** 2)


def novel(values: Doubles) -> Flags:
    """Returns which questions are novel: all but 5 % of the reference's are more similar to what others asked.

    ``values``: from ``novelty``.
    """
    return np.asarray(values >= (1 - _NOVEL) ** 2 - 1e-9)


def strata(seconds: Doubles, reference_rows: int) -> Integers:
    """Returns each row's part of the week: one of six parts of the day, on a working day or at a weekend.

    ``seconds``: of each row, since a Monday at midnight, the reference rows first. Rows of an hour of such a day of
    which the reference has fewer than three rows are ``UNSEEN``. But where the whole reference is shorter than an hour,
    what comes within an hour after it belongs to the same part as its end.
    """
    weekend = (seconds // _DAY % 7 >= 5).astype(np.int64)
    hours = weekend * 24 + (seconds % _DAY // _HOUR).astype(np.int64)
    parts = hours // _PART_HOURS
    before = seconds[:reference_rows]
    if not len(before):
        return parts
    seen = np.bincount(hours[:reference_rows], minlength=48) >= _FEWEST_SEEN
    found = np.where(seen[hours], parts, UNSEEN)
    if before[-1] - before[0] < _HOUR:
        found[(seconds >= before[0]) & (seconds <= before[-1] + _HOUR)] = parts[reference_rows - 1]
    return found


def used_rows(count: int, most: int = MOST_ROWS) -> list[int]:
    """Returns which of so many rows are used where the cost is quadratic: at most so many, evenly spaced."""
    if count <= most:
        return list(range(count))
    indices: list[int] = np.linspace(0, count - 1, most).astype(int).tolist()
    return indices


def _rise(values: Doubles, asked: Asked, counts: Flags, begin: int, end: int) -> Difference:
    from scipy.special import ndtr  # takes long to load

    chosen, weights = asked.weights(counts, begin, end)
    if not len(chosen):
        return NOTHING
    # Without drift both windows have one mean. The units' parts of the difference are taken around it.
    around = values[chosen] - np.abs(weights) @ values[chosen] / 2
    parts = np.bincount(asked.units[chosen], weights * around)
    spread = float(np.sqrt((parts**2).sum()))
    effect = float(weights @ values[chosen])
    now = weights > 0
    raised = np.maximum(np.bincount(asked.units[chosen[now]], weights[now] * around[now]), 0.0)
    if raised.sum() ** 2 < _FEWEST_UNITS * (raised**2).sum() or not spread:
        return replace(NOTHING, effect=effect)
    return Difference(p_value=float(ndtr(-parts.sum() / spread)), effect=effect)
