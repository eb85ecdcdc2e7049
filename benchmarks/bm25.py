"""Exact BM25 over texts in memory, with the formula and the standard analyzer of Milvus' text search.

Formula: Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), with ln(1 + (N - df + 0.5) / (df + 0.5))
as a term's weight, as Milvus has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.words import words


class Bm25:
    """Scores every text for a query. The statistics are those of all texts."""

    def __init__(self, texts: Sequence[str], *, k1: float, b: float) -> None:
        self._size = len(texts)
        places: dict[str, list[int]] = {}
        counts: dict[str, list[int]] = {}
        lengths = np.zeros(len(texts))
        for place, text in enumerate(texts):
            found = words(text)
            lengths[place] = len(found)
            for word, count in Counter(found).items():
                places.setdefault(word, []).append(place)
                counts.setdefault(word, []).append(count)
        norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1e-9)) if len(texts) else lengths
        self._postings: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {
            word: _weighted(np.asarray(at), np.asarray(counts[word], dtype=float), norm, k1, len(texts))
            for word, at in places.items()
        }

    def scores(self, query: str) -> NDArray[np.float64]:
        """Returns scores of shape (texts,), 0 for a text without a word of the query. A repeated word counts twice."""
        total = np.zeros(self._size)
        for word, times in Counter(words(query)).items():
            if word in self._postings:
                at, weight = self._postings[word]
                total[at] += times * weight
        return total


def _weighted(
    at: NDArray[np.int64], counts: NDArray[np.float64], norm: NDArray[np.float64], k1: float, size: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rarity = np.log1p((size - len(at) + 0.5) / (len(at) + 0.5))
    return at, rarity * counts * (k1 + 1) / (counts + norm[at])


def fuse(rankings: Iterable[Sequence[int]], weights: Sequence[float], *, constant: float) -> list[int]:
    """Weighted reciprocal rank fusion (Cormack et al. 2009): score = sum of weight / (constant + rank), best first.

    Ties keep the order of the first ranking.
    """
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, each in enumerate(ranking, 1):
            scores[each] = scores.get(each, 0.0) + weight / (constant + rank)
    return sorted(scores, key=lambda each: -scores[each])
