"""The best rows for a vector or for words, among views of a collection's rows: one pass of array sums a view."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from infra.local.milvus_lite.rows import View
from infra.local.milvus_lite.vectors import Bools, Floats, Found, top

Candidate = tuple[float, int, int]
"""Score or distance as the library tells it, number of the view, row in it."""


def by_vectors(
    views: Sequence[View], allowed: Sequence[Bools], field: str, queries: Floats, k: int
) -> list[list[Candidate]]:
    """For each query of shape (queries, dimension) the k rows of the highest cosine similarity, best first."""
    best: list[list[Candidate]] = [[] for _ in queries]
    for number, (view, mask) in enumerate(zip(views, allowed, strict=True)):
        for candidates, found in zip(best, view.dense[field].best(queries, mask, k), strict=True):
            candidates += _candidates(found, number)
    return [sorted(candidates, key=_order)[:k] for candidates in best]


def by_words(
    views: Sequence[View],
    allowed: Sequence[Bools],
    field: str,
    queries: Sequence[dict[int, float]],
    k: int,
    k1: float,
    b: float,
) -> list[list[Candidate]]:
    """For each query, words and how often it has each, the k rows of the highest BM25 score, best first.

    BM25 as Robertson and Zaragoza (2009) give it, with one added inside the logarithm so that no word counts against
    a row. How many rows there are and hold a word, and how long they are, is counted over all live rows, filter or not.
    """
    rows = sum(int(view.live.sum()) for view in views)
    length = sum(float(view.words[field].lengths.sum(where=view.live, dtype=np.float64)) for view in views)
    if not length:
        return [[] for _ in queries]
    saturations = [
        np.float32(k1 * (1 - b)) + np.float32(k1 * b * rows / length) * view.words[field].lengths for view in views
    ]
    best: list[list[Candidate]] = []
    for query in queries:
        scores = [np.zeros(len(view.live), dtype=np.float32) for view in views]
        for word, times in query.items():
            found = [view.words[field].find(word) for view in views]
            holders = sum(int(view.live[places].sum()) for view, (places, _) in zip(views, found, strict=True))
            weight = np.float32(times * (k1 + 1) * math.log((rows - holders + 0.5) / (holders + 0.5) + 1))
            for score, saturation, (places, counts) in zip(scores, saturations, found, strict=True):
                score[places] += weight * counts / (counts + saturation[places])
        candidates: list[Candidate] = []
        for number, (score, mask) in enumerate(zip(scores, allowed, strict=True)):
            matched = np.flatnonzero(mask & (score > 0))
            candidates += _candidates(top(score[matched], matched, k), number)
        # The library tells a BM25 score as a distance: the smaller, the better.
        best.append([(-score, number, row) for score, number, row in sorted(candidates, key=_order)[:k]])
    return best


def _candidates(found: Found, number: int) -> list[Candidate]:
    scores, rows = found
    return [(score, number, row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]


def _order(candidate: Candidate) -> tuple[float, int, int]:
    score, number, row = candidate
    return -score, number, row
