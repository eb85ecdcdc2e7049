"""Signals of how likely the hits of a search answer a question, computed from the question and its hits alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agents.answerer.retrieval import relevance
from schemas.retrieval import Hit

Signal = Callable[[str, Sequence[Hit]], float]


def cosine_alone(question: str, hits: Sequence[Hit]) -> float:
    """Returns the highest cosine of the first hits."""
    return relevance(question, hits, words_weight=0.0)


def words_alone(question: str, hits: Sequence[Hit]) -> float:
    """Returns the highest share of the question's words that one of the first hits contains."""
    return relevance(question, hits, words_weight=1.0)


SIGNALS: dict[str, Signal] = {"cosine": cosine_alone, "words": words_alone, "relevance": relevance}
