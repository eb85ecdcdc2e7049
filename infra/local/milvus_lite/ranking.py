"""Ranks the rows of a collection by cosine similarity or by BM25."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from infra.local.milvus_lite.rows import View
from infra.local.milvus_lite.vectors import Bools, Floats, Found, top

Candidate = tuple[float, int, int]
"""The score or distance as the library returns it, the number of the view, and the row in it."""


def by_vectors(
    views: Sequence[View], matching: Sequence[Bools], field: str, queries: Floats, k: int
) -> list[list[Candidate]]:
    """For each query the k matching rows of the highest cosine similarity, best first.

    ``queries`` has the shape (queries, dimension); ``matching`` marks for each view which of its rows may be found.
    """
    best: list[list[Candidate]] = [[] for _ in queries]
    for number, (view, mask) in enumerate(zip(views, matching, strict=True)):
        for candidates, found in zip(best, view.dense[field].best(queries, mask, k), strict=True):
            candidates += _candidates(found, number)
    return [sorted(candidates, key=_order)[:k] for candidates in best]


def by_words(
    views: Sequence[View],
    matching: Sequence[Bools],
    field: str,
    queries: Sequence[dict[int, float]],
    k: int,
    k1: float,
    b: float,
) -> list[list[Candidate]]:
    """For each query the k matching rows of the highest BM25 score, best first.

    A query is given as its words and how often it contains each. The score is that of Robertson and Zaragoza (2009)
    with 1 added inside the logarithm, so that a frequent word never lowers a score. Its statistics (the number of rows,
    how many contain a word, and their mean length) cover all live rows, whatever the filter.
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
            holders = sum(int(view.live[rows_with].sum()) for view, (rows_with, _) in zip(views, found, strict=True))
            weight = np.float32(times * (k1 + 1) * math.log((rows - holders + 0.5) / (holders + 0.5) + 1))
            for score, saturation, (rows_with, counts) in zip(scores, saturations, found, strict=True):
                score[rows_with] += weight * counts / (counts + saturation[rows_with])
        candidates: list[Candidate] = []
        for number, (score, mask) in enumerate(zip(scores, matching, strict=True)):
            matched = np.flatnonzero(mask & (score > 0))
            candidates += _candidates(top(score[matched], matched, k), number)
        # The library returns a BM25 score as a distance: smaller is better.
        best.append([(-score, number, row) for score, number, row in sorted(candidates, key=_order)[:k]])
    return best


def _candidates(found: Found, number: int) -> list[Candidate]:
    scores, rows = found
    return [(score, number, row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]


def _order(candidate: Candidate) -> tuple[float, int, int]:
    score, number, row = candidate
    return -score, number, row
