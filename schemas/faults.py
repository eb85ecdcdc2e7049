"""Describes on one line what is wrong with data from outside: a fault is one field that fails validation."""

from __future__ import annotations

from pydantic import ValidationError

MAX_SHOWN_FAULTS = 20
MAX_SHOWN_CHARACTERS = 80


def describe(error: ValidationError) -> str:
    """Returns one line that names the wrong fields and says what each should be."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    parts = [
        f"{'.'.join(shown(part) if isinstance(part, str) else str(part) for part in each['loc']) or 'value'}: "
        f"{each['msg'].removeprefix('Value error, ')}"
        for each in faults[:MAX_SHOWN_FAULTS]
    ]
    if len(faults) > MAX_SHOWN_FAULTS:
        parts.append(f"and {len(faults) - MAX_SHOWN_FAULTS} more")
    return "; ".join(parts)


def shown(text: str) -> str:
    """Returns text from outside in a form for messages: on one line and short."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 3]}..."
