"""Turns any HTML into simple HTML with few kinds of tags, in time that grows linearly with its length.

It runs before Beautiful Soup. A parser that follows the HTML standard drops the rest of a page after a comment, a
quotation mark or a ``nav`` that does not end; here, such a mark hides nothing. The standard library's parser takes
quadratic time where tags or comments do not end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from html import escape, unescape
from typing import Any

HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
UNSEEN = frozenset(("script", "style", "template", "noscript", "svg", "iframe", "nav"))
"""Elements that are left out with everything inside them."""
MAX_TITLE_CHARACTERS = 1000
_TABLE_PARTS = frozenset(("caption", "thead", "tbody", "tfoot", "tr", "td", "th"))
_BLOCKS = frozenset((*HEADINGS, *_TABLE_PARTS, "p", "div", "ul", "ol", "li", "blockquote", "table", "pre"))
# fmt: off
_DIVISIONS = frozenset((
    "address", "article", "aside", "body", "dd", "details", "dialog", "dl", "dt", "fieldset", "figcaption", "figure",
    "footer", "form", "head", "header", "hgroup", "hr", "html", "legend", "main", "optgroup", "option", "section",
    "summary",
))
# fmt: on
"""Blocks that become a ``div``: Markdown has nothing for them."""
_INLINE = frozenset(("a", "b", "code", "del", "em", "i", "kbd", "q", "s", "samp", "strong"))
_NAME = re.compile(r"</?([a-zA-Z][^\s/<>]{0,40})")
_QUOTE_OR_END = re.compile(r">|=\s*([\"'])")
_ENDS_OF_RAW_TEXT = {name: re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE) for name in ("script", "style")}


@dataclass(frozen=True)
class Tag:
    """A start or end tag. ``source``: the whole tag, if one of its attributes is wanted."""

    name: str
    opens: bool
    source: str = ""

    def attribute(self, name: str) -> str | None:
        """Finds the value of an attribute; None where the tag does not have it."""
        found = _ATTRIBUTES[name].search(self.source)
        return None if found is None else _decoded(found[1] or found[2] or found[3] or "")


_WANTED = {"img": "alt", "a": "href", "ol": "start"}
"""The attribute that is kept, by the name of the tag."""
_ATTRIBUTES = {
    name: re.compile(rf"\s{name}\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s>\"']+))", re.IGNORECASE)
    for name in _WANTED.values()
}


@dataclass(frozen=True)
class CleanHtml:
    """The body of a page as well-formed HTML, and the text of its ``title`` element."""

    body: str
    title: str


def clean(source: str) -> CleanHtml:
    """Leaves out what only a browser needs. An element that does not end hides nothing."""
    cleaning = _Cleaning()
    for part in tags_and_text(source.replace("\0", "\ufffd")):
        if isinstance(part, str):
            cleaning.text(part)
        elif part.name in UNSEEN:
            cleaning.unseen(part)
        else:
            cleaning.tag(part)
    title = "".join(cleaning.titles[0]) if cleaning.titles else ""
    return CleanHtml(body="".join(cleaning.parts), title=" ".join(title.split())[:MAX_TITLE_CHARACTERS])


@dataclass(frozen=True, kw_only=True)
class _Place:
    """What the current place in the page is inside of."""

    title: bool = False
    code: bool = False
    heading: str | None = None
    heading_has_text: bool = False
    tables: int = 0


class _Cleaning:
    """The page so far, as HTML in ``parts``."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.titles: list[list[str]] = []
        self._place = _Place()
        self._begun: dict[str, list[tuple[int, int, _Place]]] = {name: [] for name in UNSEEN}
        """Elements that are left out when they end, by name: how many parts and titles came before, and their place."""

    def text(self, text: str) -> None:
        if self._place.title:
            self.titles[-1].append(text)
            return
        if not self._place.code and self.parts and self.parts[-1] == "<br>":
            text = text.lstrip()
        if text:
            self.parts.append(escape(text, quote=False))
            if self._place.heading and not text.isspace():
                self._move(heading_has_text=True)

    def unseen(self, tag: Tag) -> None:
        self._move(title=False)
        begun = self._begun[tag.name]
        if tag.opens:
            begun.append((len(self.parts), len(self.titles), self._place))
        elif begun:
            parts, titles, self._place = begun.pop()
            del self.parts[parts:]
            del self.titles[titles:]
            for others in self._begun.values():
                while others and others[-1][0] > parts:
                    others.pop()

    def tag(self, tag: Tag) -> None:
        name = "div" if tag.name in _DIVISIONS else tag.name
        self._move(title=False)
        if name == "title":
            if tag.opens:
                self.titles.append([])
                self._move(title=True)
        elif self._place.code:
            self._tag_in_code(name, tag.opens)
        elif name == "br":
            self.parts.append("<br>")
        elif name == "img":
            self.text(f" {tag.attribute('alt') or ''} ")
        elif name in _INLINE:
            self._append(tag, name)
        elif name in _BLOCKS:
            self._block(tag, name)

    def _tag_in_code(self, name: str, opens: bool) -> None:
        if name == "pre" and not opens:
            self._move(code=False)
            self.parts.append("</pre>")
        elif name == "br" or (name in _BLOCKS and not opens):
            self.parts.append("\n")

    def _block(self, tag: Tag, name: str) -> None:
        if self._place.heading is not None:
            if not self._place.heading_has_text and name not in HEADINGS:
                return
            # A block ends a heading: otherwise one without an end tag would take in the rest of the page.
            self.parts.append(f"</{self._place.heading}>")
            self._move(heading=None, heading_has_text=False)
        if name in HEADINGS and not tag.opens:
            return
        if name in HEADINGS:
            self._move(heading=name)
        elif name == "pre":
            if not tag.opens:
                return
            self._move(code=True)
        elif name == "table":
            if not tag.opens and not self._place.tables:
                return
            self._move(tables=self._place.tables + (1 if tag.opens else -1))
        elif name in _TABLE_PARTS and not self._place.tables:
            name = "div"
        self._append(tag, name)

    def _append(self, tag: Tag, name: str) -> None:
        wanted = _WANTED.get(name) if tag.opens else None
        value = tag.attribute(wanted) if wanted else None
        attribute = "" if value is None else f' {wanted}="{escape(value)}"'
        self.parts.append(f"<{'' if tag.opens else '/'}{name}{attribute}>")

    def _move(self, **changes: Any) -> None:
        self._place = replace(self._place, **changes)


def tags_and_text(source: str) -> Iterator[Tag | str]:
    """Yields tags and the text between them in order, without scripts, styles, comments and declarations."""
    at, endless, quotes = 0, set[str](), True
    while at < len(source):
        mark = source.find("<", at)
        if mark != at:
            yield _decoded(source[at : mark if mark >= 0 else len(source)])
            if mark < 0:
                return
        at = mark
        named = _NAME.match(source, at)
        if source.startswith("<!--", at):
            # A comment that never ends: only its mark is dropped, so that the text after it is kept.
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
                yield Tag(name, opens, source[at : end + 1] if name in _WANTED else "")
                if opens and name in _ENDS_OF_RAW_TEXT and name not in endless:
                    closing = _ENDS_OF_RAW_TEXT[name].search(source, end)
                    if closing:
                        end = closing.start() - 1
                    else:
                        endless.add(name)
            at = end + 1
        else:
            yield "<"
            at += 1


def _tag_end(source: str, at: int) -> int:
    """Finds the ``>`` that ends the tag at ``at``, outside of quotes; -1 where there is none."""
    while found := _QUOTE_OR_END.search(source, at):
        if not found[1]:
            return found.start()
        at = source.find(found[1], found.end()) + 1
        if at == 0:
            break
    return -1


def _decoded(text: str) -> str:
    """Resolves character references."""
    try:
        return unescape(text)
    except ValueError:  # a character reference of thousands of digits
        return text
