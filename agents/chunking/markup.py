"""Takes HTML apart into tags and text, in time that grows with its length alone.

The standard library's parser takes quadratic time where tags or comments do not end, and raises on some declarations.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = re.compile(r"</?([a-zA-Z][^\s/<>]{0,40})")
_QUOTE_OR_END = re.compile(r">|=\s*([\"'])")
_RAW = {name: re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE) for name in ("script", "style")}


@dataclass(frozen=True)
class Tag:
    """A start or end tag; ``source``: all of it, of an image alone, whose other text it holds."""

    name: str
    opens: bool
    source: str = ""


def markup(source: str) -> Iterator[Tag | str]:
    """Tags and the text between them, in order; scripts, styles, comments and declarations left out."""
    at, endless, quotes = 0, set[str](), True
    while at < len(source):
        mark = source.find("<", at)
        if mark != at:
            yield decoded(source[at : mark if mark >= 0 else len(source)])
            if mark < 0:
                return
        at = mark
        named = _NAME.match(source, at)
        if source.startswith("<!--", at):
            # Where no comment ends any more, its marks alone are dropped: the text is worth more.
            end = -1 if "-->" in endless else source.find("-->", at + 2)
            if end < 0:
                endless.add("-->")
            at = end + 3 if end >= 0 else at + 4
        elif named or source.startswith(("<!", "<?", "</"), at):
            end = _tag_end(source, at) if named and quotes else -1
            if end < 0:
                quotes = quotes and not named
                end = -1 if ">" in endless else source.find(">", at)
            if end < 0:
                endless.add(">")
                yield "<"
                at += 1
                continue
            if named:
                name, opens = named[1].lower(), source[at + 1] != "/"
                yield Tag(name, opens, source[at : end + 1] if name == "img" else "")
                if opens and name in _RAW and name not in endless:
                    closing = _RAW[name].search(source, end)
                    if closing:
                        end = closing.start() - 1
                    else:
                        endless.add(name)
            at = end + 1
        else:
            yield "<"
            at += 1


def _tag_end(source: str, at: int) -> int:
    """Where the tag at ``at`` ends, a quoted ``>`` not counted; -1 where it does not."""
    while found := _QUOTE_OR_END.search(source, at):
        if not found[1]:
            return found.start()
        at = source.find(found[1], found.end()) + 1
        if at == 0:
            break
    return -1


def decoded(text: str) -> str:
    """The text with its character references resolved."""
    try:
        return html.unescape(text)
    except ValueError:  # a character reference of thousands of digits
        return text
