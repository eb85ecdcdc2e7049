"""Metrics of ranked documents: recall, reciprocal rank and discounted gain of the first k, each 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence


def best_first(found: Iterable[str]) -> list[str]:
    """Returns the documents of ranked chunks, each once, in the order of their best chunks."""
    return list(dict.fromkeys(found))


def recall_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Returns the share of the relevant documents among the first k. Raises ValueError if none is relevant."""
    return len(set(ranked[:k]) & _some(relevant)) / len(set(relevant))


def reciprocal_rank_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Returns 1 / rank of the first relevant document, or 0 if none is among the first k."""
    wanted = _some(relevant)
    return next((1 / rank for rank, each in enumerate(ranked[:k], 1) if each in wanted), 0.0)


def ndcg_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Returns the normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), with gains 0 and 1, base 2."""
    wanted = _some(relevant)
    gain = sum(1 / math.log2(rank + 1) for rank, each in enumerate(ranked[:k], 1) if each in wanted)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))


def _some(relevant: Collection[str]) -> set[str]:
    if not relevant:
        raise ValueError("a question without a relevant document has no rank: leave it out")
    return set(relevant)
