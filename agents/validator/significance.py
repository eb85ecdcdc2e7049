"""Computes how likely a difference would be by chance alone. The tests are exact, so that few rows prove little."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from agents.validator.metrics import METRICS

PERMUTATIONS = 4000


def sign_test(better: int, worse: int) -> float:
    """Returns the p-value of the exact one-sided sign test: the chance of at least ``better`` better rows.

    For right and wrong answers it is McNemar's exact test (McNemar 1947). It is 1.0 when no row changed.
    """
    changed = better + worse
    return float(sum(comb(changed, each) for each in range(better, changed + 1)) / 2**changed)


def permutation_test(metric: str, answers: Sequence[str], right: Sequence[str], seed: int = 0) -> float:
    """Returns the p-value of a permutation test of whether the answers follow from their rows (Fisher 1935).

    It is how often the answers score at least as high against right answers that are shuffled among the rows, in
    ``PERMUTATIONS`` random permutations. It is 1.0 when all right answers are the same.
    """
    score = METRICS[metric]
    places = {text: place for place, text in enumerate(dict.fromkeys(right))}
    answer_numbers = {text: place for place, text in enumerate(dict.fromkeys(answers))}
    table = np.array([[score(answer, text) for text in places] for answer in answer_numbers])
    rows = np.array([answer_numbers[answer] for answer in answers])
    columns = np.array([places[text] for text in right])
    own = table[rows, columns].sum()
    shuffled = np.random.default_rng(seed).permuted(np.tile(columns, (PERMUTATIONS, 1)), axis=1)
    reached = int((table[rows, shuffled].sum(axis=1) >= own - 1e-9).sum())
    return (1 + reached) / (1 + PERMUTATIONS)
