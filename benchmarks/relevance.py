"""How likely what a search found answers the question: signals that need the question and its hits, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.words import content_words, words
from schemas.retrieval import Hit

BEST = 5
WORDS_WEIGHT = 0.5

Signal = Callable[[str, Sequence[Hit]], float]


def relevance(question: str, hits: Sequence[Hit], *, best: int = BEST, words_weight: float = WORDS_WEIGHT) -> float:
    """0 to 1: over the first ``best`` hits, the highest mean of a hit's cosine and its share of the question's words.

    A hit's ``score`` must be its cosine, which counts as 0 where negative; its words are those of title, heading and
    text; the question's are its content words. 0 where nothing was found.
    """
    wanted = set(content_words(question))
    values = [0.0]
    for hit in hits[:best]:
        held = wanted.intersection(words(f"{hit.chunk.title or ''} {hit.chunk.heading or ''} {hit.chunk.text}"))
        share = len(held) / len(wanted) if wanted else 0.0
        values.append((1 - words_weight) * max(0.0, hit.score) + words_weight * share)
    return max(values)


def cosine_alone(question: str, hits: Sequence[Hit]) -> float:
    """The highest cosine of the first hits."""
    return relevance(question, hits, words_weight=0.0)


def words_alone(question: str, hits: Sequence[Hit]) -> float:
    """The highest share of the question's words in one of the first hits."""
    return relevance(question, hits, words_weight=1.0)


SIGNALS: dict[str, Signal] = {"cosine": cosine_alone, "words": words_alone, "relevance": relevance}
