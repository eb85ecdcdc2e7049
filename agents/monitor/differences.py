"""Tests whether two windows differ, with exact error rates for windows of any size.

The usual drift scores with fixed thresholds raise false alarms when windows are small. These are permutation tests and
Fisher's exact test: without drift, P(p <= a) <= a for every a, provided that a window's rows are independent of each
other. The permutations are drawn from a fixed seed, so that the same rows always give the same p-values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

MOST_ROWS = 1000
"""The most rows of a window that a test with quadratic cost uses; rows of a larger window are sampled evenly."""
_SEED = 20_240_229
_FEWEST_SPLITS = 1999
_MOST_SPLITS = 19_999
_BANDWIDTH = 0.25
_PORTION_CELLS = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """``p_value``: the probability of such a difference without drift. ``effect``: its size, in the test's unit."""

    p_value: float
    effect: float


def splits_for(alpha: float) -> int:
    """Returns how many random splits resolve p-values well below ``alpha``, even when five tests share it."""
    return min(_MOST_SPLITS, max(_FEWEST_SPLITS, ceil(20 / alpha) - 1))


def questions_differ(reference: Floats, current: Floats, splits: int) -> Difference:
    """Tests whether embeddings, shape (rows, dimension), come from different distributions.

    Maximum mean discrepancy with a Gaussian kernel of a quarter of the median squared distance (Gretton et al., A
    Kernel Two-Sample Test, JMLR 13, 2012), calibrated by permutation. Effect: the share of current questions that
    are further from every reference question than 95 % of the reference questions are from their nearest neighbour.
    """
    before, now = _thinned(reference), _thinned(current)
    both = np.vstack([before, now])
    similarity = both @ both.T
    lengths = np.diag(similarity)
    squared = np.maximum(lengths[:, None] + lengths[None, :] - 2 * similarity, 0)
    scale = _BANDWIDTH * float(np.median(squared[~np.tri(len(both), dtype=np.bool_)])) or 1.0
    kernel = np.exp(-squared / scale)
    m, n = len(before), len(now)

    def discrepancy(in_reference: Floats) -> Floats:
        weights = in_reference / m - (1 - in_reference) / n
        found: Floats = np.einsum("si,si->s", weights @ kernel, weights)
        return found

    return Difference(p_value=_permutation_p(discrepancy, m, n, splits), effect=float(_is_new(squared, m).mean()))


def greatest_similarity(reference: Floats, current: Floats) -> Floats:
    """Returns each current question's cosine similarity to the most similar reference question; for unit vectors."""
    size = max(1, _PORTION_CELLS // max(1, len(reference)))  # all pairs at once would not fit into the memory
    portions = [(current[start : start + size] @ reference.T).max(axis=1) for start in range(0, len(current), size)]
    found: Floats = np.concatenate(portions)
    return found


def rate_rose(before: tuple[int, int], now: tuple[int, int]) -> Difference:
    """Tests whether a rate rose, from (cases, all) before and now. Fisher's exact test, one-sided. Effect: the rise."""
    (cases_before, all_before), (cases_now, all_now) = before, now
    if not all_before or not all_now:
        return Difference(p_value=1.0, effect=0.0)
    table = [[cases_now, all_now - cases_now], [cases_before, all_before - cases_before]]
    from scipy.stats import fisher_exact  # takes seconds to load

    p_value = float(fisher_exact(table, alternative="greater").pvalue)
    return Difference(p_value=min(1.0, p_value), effect=cases_now / all_now - cases_before / all_before)


def kinds_differ(before: Sequence[str], now: Sequence[str], splits: int) -> Difference:
    """Tests whether the mix of kinds changed. Effect: total variation distance, 0 to 1.

    The chi-squared statistic is calibrated by permutation, because the expected counts of rare kinds are too small for
    the chi-squared distribution.
    """
    if not before or not now:
        return Difference(p_value=1.0, effect=0.0)
    _, codes = np.unique(np.array([*before, *now]), return_inverse=True)
    totals = np.bincount(codes)
    counts = np.bincount(codes[: len(before)], minlength=len(totals))
    expected = totals * (len(before) / len(codes))

    def chi_squared(reference_counts: Integers) -> NDArray[np.float64]:
        # With fixed margins one window's deviations determine the other's, so one row of the table is enough.
        found: NDArray[np.float64] = ((reference_counts - expected) ** 2 / totals).sum(axis=-1)
        return found

    # How often each kind falls into the reference when rows are split at random.
    split = np.random.default_rng(_SEED).multivariate_hypergeometric(totals, len(before), size=splits)
    p_value = _share_as_large(float(chi_squared(counts)), [chi_squared(split)], splits)
    shares = counts / len(before) - (totals - counts) / len(now)
    return Difference(p_value=p_value, effect=float(np.abs(shares).sum() / 2))


def values_fell(before: Sequence[float], now: Sequence[float], splits: int) -> Difference:
    """Tests whether values became lower: the rank sum, calibrated by permutation, one-sided.

    Effect: how far the median fell.
    """
    if not before or not now:
        return Difference(p_value=1.0, effect=0.0)
    thin = _thinned(np.asarray(before)), _thinned(np.asarray(now))
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate(thin)).astype(np.float32)

    def rank_sum(in_reference: Floats) -> Floats:
        found: Floats = in_reference @ ranks
        return found

    effect = float(np.median(before) - np.median(now))
    return Difference(p_value=_permutation_p(rank_sum, len(thin[0]), len(thin[1]), splits), effect=effect)


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


def _permutation_p(statistic: Callable[[Floats], Floats], m: int, n: int, splits: int) -> float:
    """Returns the p-value of a statistic that is large when windows differ.

    ``statistic`` gets splits, shape (splits, m + n), with ones where a row is in the reference.
    """
    real = np.zeros((1, m + n), dtype=np.float32)
    real[0, :m] = 1
    drawn = (statistic(some) for some in _random_splits(m, n, splits))
    return _share_as_large(float(statistic(real)[0]), drawn, splits)


def _share_as_large(observed: float, drawn: Iterable[NDArray[Any]], splits: int) -> float:
    """Returns an exact p-value: the share of the splits, the real one included, with a statistic at least as large."""
    # Equal splits must count as equal, in whatever order their terms were added.
    slack = 1e-5 * abs(observed) + 1e-7
    return (1 + sum(int((some >= observed - slack).sum()) for some in drawn)) / (1 + splits)


@lru_cache(maxsize=1)
def _random_splits(m: int, n: int, splits: int) -> tuple[Floats, ...]:
    """Draws splits in portions, so that only one portion at a time is held in double precision."""
    random = np.random.default_rng(_SEED)
    size = max(1, _PORTION_CELLS // (m + n))
    portions = []
    for start in range(0, splits, size):
        shape = (min(size, splits - start), m + n)
        chosen = np.argpartition(random.random(shape), m - 1, axis=1)[:, :m]
        portion = np.zeros(shape, dtype=np.float32)
        np.put_along_axis(portion, chosen, 1, axis=1)
        portions.append(portion)
    return tuple(portions)


def _is_new(squared: Floats, m: int) -> NDArray[np.bool_]:
    """Returns which rows after the first m are novel: further from the first m rows than 95 % of those are from each
    other's nearest."""
    among = squared[:m, :m].copy()
    np.fill_diagonal(among, np.inf)
    found: NDArray[np.bool_] = squared[m:, :m].min(axis=1) > np.quantile(among.min(axis=1), 0.95)
    return found


def used_rows(count: int, most: int = MOST_ROWS) -> list[int]:
    """Returns which of so many rows are used where the cost is quadratic: at most so many, evenly spaced."""
    if count <= most:
        return list(range(count))
    indices: list[int] = np.linspace(0, count - 1, most).astype(int).tolist()
    return indices


def _thinned(rows: NDArray[Any]) -> NDArray[Any]:
    return rows if len(rows) <= MOST_ROWS else np.take(rows, used_rows(len(rows)), axis=0)
