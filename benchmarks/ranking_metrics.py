"""How well ranked documents answer: recall, reciprocal rank and discounted gain of the first k, each 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence


def best_first(found: Iterable[str]) -> list[str]:
    """The documents of ranked chunks, each once: a document stands where its best chunk stood."""
    return list(dict.fromkeys(found))


def recall_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """The share of the relevant documents that stand among the first k; raises ValueError where there are none."""
    return len(set(ranked[:k]) & _some(relevant)) / len(set(relevant))


def reciprocal_rank_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """1 / rank of the first relevant document, 0 where none stands among the first k."""
    wanted = _some(relevant)
    return next((1 / rank for rank, each in enumerate(ranked[:k], 1) if each in wanted), 0.0)


def ndcg_at(k: int, ranked: Sequence[str], relevant: Collection[str]) -> float:
    """Normalised discounted cumulative gain with gains of 0 and 1 (Järvelin and Kekäläinen 2002, base-2 logarithm)."""
    wanted = _some(relevant)
    gain = sum(1 / math.log2(rank + 1) for rank, each in enumerate(ranked[:k], 1) if each in wanted)
    return gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))


def _some(relevant: Collection[str]) -> set[str]:
    if not relevant:
        raise ValueError("a question without a relevant document has no rank: leave it out")
    return set(relevant)
