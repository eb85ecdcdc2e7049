"""Scores an answer against the right one, from 0 to 1. A task names its metric."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType

from schemas.words import comparable

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def exact_match(answer: str, right: str) -> float:
    """Returns 1 when they are the same apart from case, white space and Unicode form."""
    return float(comparable(answer) == comparable(right))


def token_f1(answer: str, right: str) -> float:
    """Returns the F1 score of the words, as SQuAD computes it (Rajpurkar et al. 2016, evaluate-v1.1).

    Case, punctuation and English articles do not count. Two empty answers agree; an empty one agrees with no other.
    """
    given, wanted = _words(answer), _words(right)
    if not given or not wanted:
        return float(given == wanted)
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted))


METRICS: Mapping[str, Callable[[str, str], float]] = MappingProxyType(
    {"exact_match": exact_match, "accuracy": exact_match, "token_f1": token_f1}
)
"""The metrics by the name that a task gives as its ``metric``."""

RIGHT = 0.5
"""An answer with at least this score counts as right, where answers are right or wrong."""

WHOLE = frozenset({"exact_match", "accuracy"})
"""Metrics that score an answer as wrong if it is longer than the right one."""


def _words(text: str) -> list[str]:
    kept = "".join(each for each in comparable(text) if not unicodedata.category(each).startswith("P"))
    return _ARTICLES.sub(" ", kept).split()
