"""How likely what a search found answers the question: signals that need the question and its hits, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.answerer.retrieval import relevance
from schemas.retrieval import Hit

Signal = Callable[[str, Sequence[Hit]], float]


def cosine_alone(question: str, hits: Sequence[Hit]) -> float:
    """The highest cosine of the first hits."""
    return relevance(question, hits, words_weight=0.0)


def words_alone(question: str, hits: Sequence[Hit]) -> float:
    """The highest share of the question's words in one of the first hits."""
    return relevance(question, hits, words_weight=1.0)


SIGNALS: dict[str, Signal] = {"cosine": cosine_alone, "words": words_alone, "relevance": relevance}
