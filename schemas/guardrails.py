"""What the promoter's guardrails see of an answer: whether it declines or asks back, how slow and how long it is.

An adapter can earn good ratings and be worse all the same, for instance by declining whatever is hard. So both arms of
a canary are also compared in these facts, which no user has to report.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from typing import Final

from schemas.features import Interaction

STEPS_PER_DOUBLING: Final = 4
STEPS: Final = tuple(2 ** (step / STEPS_PER_DOUBLING) for step in range(STEPS_PER_DOUBLING * 20 + 1))
"""Means of milliseconds and of characters are counted in steps, each 19 % above the one before: from 1 to a million."""
_LONGEST: Final = 1e9

_CLOSING: Final = "\"'`*_~)]}»”’ \t\r\n"
_QUESTION_MARKS: Final = ("?", "？", "؟", "\u037e", "՞", "⁇", "⁈")
_REFUSAL: Final = re.compile(
    r"\W*(?:(?:(?:i am|we are) )?(?:very |so )?(?:sorry|afraid)|unfortunately|as an? (?:ai|language model)[\w ]*)?"
    r"\W*(?:but |that )?(?:i|we) "
    r"(?:can't|cannot|can not|could not|couldn't|(?:am|are) (?:unable|not able)"
    r"|(?:do not|don't) (?:know|have|understand))\b"
)


def declines(text: str) -> bool:
    """Whether an answer is empty, or begins as a refusal does. Only English refusals are known."""
    plain = text[:200].casefold().replace("’", "'").replace("i'm ", "i am ").replace("we're ", "we are ")
    return not plain.strip() or _REFUSAL.match(plain) is not None


def asks_back(text: str) -> bool:
    """Whether an answer ends in a question."""
    return text.rstrip(_CLOSING).endswith(_QUESTION_MARKS)


def guarded(row: Interaction) -> dict[str, int]:
    """Returns what a row adds to its user's tally; nothing where no answer was given.

    ``declined`` and ``asked_back``: 0 or 1. ``latency_ms`` and ``characters`` are added up, for the user's means.
    """
    if row.answer is None or row.failure is not None or row.finish_reason == "retrieve_only":
        return {}
    latency = row.latency_ms if row.latency_ms is not None and math.isfinite(row.latency_ms) else 0.0
    return {
        "declined": int(bool(row.declined) or declines(row.answer)),
        "asked_back": int(asks_back(row.answer)),
        "latency_ms": round(min(max(latency, 0.0), _LONGEST)),
        "characters": len(row.answer),
    }


def step_of(mean: float) -> int:
    """Returns how many of the ``STEPS`` a mean has reached."""
    return bisect_right(STEPS, mean)
