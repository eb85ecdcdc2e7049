"""How likely a difference would be if there were none: exact tests, so that few rows do not promise much."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from agents.validator.metrics import METRICS

SHUFFLES = 4000


def sign_test(better: int, worse: int) -> float:
    """How often at least ``better`` of all changed rows would be better if better and worse were equally likely.

    The exact one-sided sign test; for right and wrong answers it is McNemar's exact test (McNemar 1947). 1.0 when
    nothing changed.
    """
    changed = better + worse
    return float(sum(comb(changed, each) for each in range(better, changed + 1)) / 2**changed)


def shuffle_test(metric: str, answers: Sequence[str], right: Sequence[str], seed: int = 0) -> float:
    """How often the answers fit right answers that were dealt out anew among the rows at least as well as their own.

    A permutation test of whether the answers follow from their rows at all (Fisher 1935), by ``SHUFFLES`` random
    deals. 1.0 when all right answers are the same.
    """
    score = METRICS[metric]
    places = {text: place for place, text in enumerate(dict.fromkeys(right))}
    said = {text: place for place, text in enumerate(dict.fromkeys(answers))}
    table = np.array([[score(answer, text) for text in places] for answer in said])
    rows = np.array([said[answer] for answer in answers])
    columns = np.array([places[text] for text in right])
    own = table[rows, columns].sum()
    dealt = np.random.default_rng(seed).permuted(np.tile(columns, (SHUFFLES, 1)), axis=1)
    reached = int((table[rows, dealt].sum(axis=1) >= own - 1e-9).sum())
    return (1 + reached) / (1 + SHUFFLES)
