"""Hides passwords in messages, in whatever form a URL or a driver writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

_IN_URL = re.compile(r"(\w+://[^\s/:@]*):\S*@")
_SHOWN = "***"


def hide(text: str, secrets: Iterable[str | None]) -> str:
    """Returns the text without these secrets, plain or URL-encoded, and without the passwords of URLs."""
    for secret in secrets:
        if secret:
            text = re.sub("".join(map(_written, secret)), _SHOWN, text)
    return hide_in_urls(text)


def hide_in_urls(text: str) -> str:
    """Returns the text without the passwords of the URLs in it."""
    return _IN_URL.sub(rf"\1:{_SHOWN}@", text)


def _written(character: str) -> str:
    """Returns a pattern for the ways in which a character is written: as it is, percent-encoded, or escaped."""
    encoded = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
    plus = r"|\+" if character == " " else ""
    return rf"(?:(?i:{encoded})|\\?{re.escape(character)}{plus})"
