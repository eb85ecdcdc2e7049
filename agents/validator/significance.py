"""Computes how likely a difference would be by chance alone. The tests are exact, so that few rows prove little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import comb

import numpy as np
from scipy.special import bdtrc, stdtr

from agents.validator.metrics import METRICS

PERMUTATIONS = 4000
"""The fewest random permutations of a test."""
_LAST_SHARE = 1 / 5000
"""The share of the error that every try gets after the 55th, so that the level does not become too small to reach."""


def level_of_try(chance: float, tries: int) -> float:
    """Returns the level of the test of the candidate that is number ``tries`` on the same rows, counted from 1.

    Alpha spending: the levels of all tries add up to ``chance`` (the sum of 6 / (pi k)^2 is 1), so the probability
    that any of them passes by chance is at most ``chance`` (Foster and Stine 2008; Tian and Ramdas 2021, arXiv
    1910.04900). It holds as long as nothing but the verdicts reaches the next training. With the lower bound of the
    level it holds for the first 100 tries.
    """
    return chance * max(6 / (math.pi * tries) ** 2, _LAST_SHARE)


def sign_test(better: int, worse: int) -> float:
    """Returns the p-value of the exact one-sided sign test: the chance of at least ``better`` better rows.

    For right and wrong answers it is McNemar's exact test (McNemar 1947). It is 1.0 when no row changed.
    """
    changed = better + worse
    return float(sum(comb(changed, each) for each in range(better, changed + 1)) / 2**changed)


def share_test(count: int, rows: int, share: float) -> float:
    """Returns the p-value of the exact one-sided binomial test: the chance of at least ``count`` of ``rows`` rows.

    ``share``: the probability of each row. A p-value below a means that the lower bound of Clopper and Pearson (1934)
    at confidence 1 - a is above ``share``.
    """
    return float(bdtrc(count - 1, rows, share)) if count > 0 else 1.0


def drop_test(candidate: Sequence[float], reference: Sequence[float], allowed: float) -> float:
    """Returns the p-value of the paired one-sided t-test of "the mean falls by more than ``allowed``" (Student 1908).

    Scores are from 0 to 1. Where few rows fall much and the others stay, as is usual, the test is on the safe side:
    it finds a drop too seldom rather than too often. It needs about 30 rows.
    """
    drops = np.subtract(reference, candidate)
    beyond, spread = drops.mean() - allowed, drops.std(ddof=1)
    if spread < 1e-12:
        return 0.0 if beyond > 1e-9 else 1.0
    return float(stdtr(len(drops) - 1, -beyond / spread * math.sqrt(len(drops))))


def permutation_test(
    metric: str, answers: Sequence[str], right: Sequence[str], seed: int = 0, *, permutations: int = PERMUTATIONS
) -> float:
    """Returns the p-value of a permutation test of whether the answers follow from their rows (Fisher 1935).

    It is how often the answers score at least as high against right answers that are shuffled among the rows, in
    ``permutations`` random permutations. It is 1.0 when all right answers are the same.
    """
    score = METRICS[metric]
    places = {text: place for place, text in enumerate(dict.fromkeys(right))}
    answer_numbers = {text: place for place, text in enumerate(dict.fromkeys(answers))}
    table = np.array([[score(answer, text) for text in places] for answer in answer_numbers])
    rows = np.array([answer_numbers[answer] for answer in answers])
    columns = np.array([places[text] for text in right])
    own = table[rows, columns].sum()
    random, reached = np.random.default_rng(seed), 0
    for start in range(0, permutations, PERMUTATIONS):  # a bounded number at once, for the sake of memory
        count = min(PERMUTATIONS, permutations - start)
        shuffled = random.permuted(np.tile(columns, (count, 1)), axis=1)
        reached += int((table[rows, shuffled].sum(axis=1) >= own - 1e-9).sum())
    return (1 + reached) / (1 + permutations)
