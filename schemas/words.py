"""Finds the words of a text, and the words of a question that say what it is about."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")
FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "a about am an and are as at be been being but by can could did do does for from had has have he her his how i "
        "if in into is it its may me might must my no not of on or our s she should such t that the their then there "
        "these they this to was we were what when where which who whom whose why will with would you your"
    )
)
"""English words that occur in questions about anything. Few of them are words of other languages."""


def words(text: str) -> list[str]:
    """Returns the runs of word characters in lower case, as Milvus' standard analyzer does."""
    return _WORD.findall(text.lower())


def content_words(question: str) -> list[str]:
    """Returns the question's words without function words, each once, in order; all words if no others are left."""
    every = list(dict.fromkeys(words(question)))
    return [word for word in every if word not in FUNCTION_WORDS] or every
