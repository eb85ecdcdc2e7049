"""Finds the words of a text, and says when two texts are the same to whoever compares them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

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


def composed(text: str) -> str:
    """Returns the text in Unicode's form NFC, in which it is stored: ``é`` as one character, however it was typed."""
    return unicodedata.normalize("NFC", text)


def spaced(text: str) -> str:
    """Returns the text in NFC, without outer white space and with one space for each run of it."""
    return " ".join(composed(text).split())


def comparable(text: str) -> str:
    """Returns what two texts have in common that differ only in case, white space and Unicode form.

    Inputs, labels and answers are compared by it. Source: Unicode 16, 3.13, canonical caseless matching.
    """
    return composed(spaced(text).casefold())


def label_of(text: str, labels: Iterable[str]) -> str | None:
    """Returns the label that a text means, as the task spells it; None if it is none of them."""
    wanted = comparable(text)
    return next((label for label in labels if comparable(label) == wanted), None)
