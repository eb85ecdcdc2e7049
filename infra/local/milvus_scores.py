"""The best rows for a vector or for words, among views of a collection's rows: one pass of array sums a view."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.local.milvus_rows import Bools, View
from infra.local.milvus_words import Floats

QUERIES_AT_ONCE = 32
"""Of one request: beyond, the scores of all rows for all queries would take much memory."""
FEW = 8
"""Where at most one row in so many is allowed, their vectors are taken out first."""
Candidate = tuple[float, int, int]
"""Score or distance as the library tells it, number of the view, row in it."""


def by_vectors(
    views: Sequence[View], allowed: Sequence[Bools], field: str, queries: Floats, k: int
) -> list[list[Candidate]]:
    """For each query of shape (queries, dimension) the k rows of the highest cosine similarity, best first."""
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    units = (queries / np.where(lengths == 0, 1, lengths)).astype(np.float32)
    best: list[list[Candidate]] = []
    for start in range(0, len(units), QUERIES_AT_ONCE):
        block = units[start : start + QUERIES_AT_ONCE]
        candidates: list[list[Candidate]] = [[] for _ in block]
        for number, (view, mask) in enumerate(zip(views, allowed, strict=True)):
            vectors, inverse = view.dense[field]
            places = np.flatnonzero(mask)
            if len(places) * FEW < len(mask):
                scores = (vectors[places] @ block.T) * inverse[places, None]
            else:
                scores = (vectors @ block.T) * inverse[:, None]
                scores = scores if len(places) == len(mask) else scores[places]
            for each, score in zip(candidates, np.minimum(scores, 1).T, strict=True):
                each += _best(score, places, number, k)
        best += [sorted(each, key=_order)[:k] for each in candidates]
    return best


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
            candidates += _best(score[matched], matched, number, k)
        # The library tells a BM25 score as a distance: the smaller, the better.
        best.append([(-score, number, row) for score, number, row in sorted(candidates, key=_order)[:k]])
    return best


def _best(scores: Floats, places: NDArray[np.intp], number: int, k: int) -> list[Candidate]:
    if len(places) > k:
        chosen = np.argpartition(scores, len(places) - k)[len(places) - k :]
        scores, places = scores[chosen], places[chosen]
    return [(score, number, row) for score, row in zip(scores.tolist(), places.tolist(), strict=True)]


def _order(candidate: Candidate) -> tuple[float, int, int]:
    score, number, row = candidate
    return -score, number, row
