"""Finds the sections of a text under their headings, and the code blocks and tables that should not be split."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_HEADING_CHARACTERS = 200
"""The longest heading in a path. A longer one is shortened there, and its lines stay in the section's text."""

_MAX_NESTING = 20
_MAX_INLINE_CHARACTERS = 2000
_LINE_END = re.compile(r"\r\n?|\n")
_PERHAPS_HEADING = re.compile(r"^ {0,3}#{1,6}(?:\s|$)", re.MULTILINE)
_FRONT_MATTER = re.compile(
    r"\A\ufeff?---[ \t]*\r?\n(?=[\w\"'][^\r\n:]*:(?:\s|$))(?:(?!---|\.\.\.)[^\n]*\n)*(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)"
)
_ATTRIBUTES = re.compile(r"\s*\{:?\s*[#.][^{}]*\}\s*$")
_TABLE_OPENS = re.compile(r"\s*<table[\s>]", re.IGNORECASE)
_TABLE_CLOSES = re.compile(r"</table\s*>", re.IGNORECASE)
_HEAD_CLOSES = re.compile(r"</thead\s*>", re.IGNORECASE)
_ROW_CLOSES = re.compile(r"</tr\s*>", re.IGNORECASE)
_HEADER_CELL = re.compile(r"<th[\s>]", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A heading of level 1 to 6 without its marks, and where its lines start and end in the text.

    ``complete``: the title holds everything that the lines say, so chunks need not repeat them.
    """

    level: int
    title: str
    start: int
    end: int
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class CodeOrTable:
    """A code block or table, which is kept whole if it fits into a chunk. ``header_end``: the end of a header row."""

    kind: Literal["code", "table", "html table"]
    start: int
    end: int
    header_end: int | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """The text between two headings, and the headings above it, outermost first.

    A heading without text and without headings of a lower level below it becomes the text of a section.
    """

    path: tuple[str, ...]
    start: int
    end: int
    code_and_tables: tuple[CodeOrTable, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A document's text, in which all offsets count, and its sections in order."""

    text: str
    sections: tuple[Section, ...]


def read_outline(text: str, format: Literal["markdown", "text"] | None) -> Outline:
    """Finds the sections of a text; without a format, as ``guessed_outline`` does."""
    if format == "markdown":
        return markdown_outline(text)
    return plain_outline(text) if format == "text" else guessed_outline(text)


def plain_outline(text: str) -> Outline:
    """Makes one section without a heading."""
    return Outline(text=text, sections=(Section(path=(), start=0, end=len(text)),))


def markdown_outline(text: str) -> Outline:
    """Finds the sections of Markdown, without its front matter, in time and memory linear in its length."""
    return _outline_of_blocks(text, *_blocks(text))


def guessed_outline(text: str) -> Outline:
    """Reads the text as Markdown if it has a heading with number signs outside of code, else as plain text."""
    if _PERHAPS_HEADING.search(text):
        tokens, lines = _blocks(text)
        if any(token.type == "heading_open" and token.level == 0 and token.markup[0] == "#" for token in tokens):
            return _outline_of_blocks(text, tokens, lines)
    return plain_outline(text)


def _front_matter_end(text: str) -> int:
    """Finds the end of YAML between two lines of dashes at the top; 0 where there is none."""
    found = _FRONT_MATTER.match(text)
    return found.end() if found else 0


@cache
def _parser() -> MarkdownIt:
    # Link definitions are kept as text, and the rule for them would be the slowest.
    return MarkdownIt("commonmark", {"maxNesting": _MAX_NESTING}).enable("table").disable("reference")


def _outline_of_blocks(text: str, tokens: Sequence[Token], lines: Sequence[int]) -> Outline:
    headings, unsplit = list(_headings(tokens, lines)), list(_code_and_tables(text, tokens, lines))
    return Outline(text=text, sections=tuple(_sections(text, lines[0], headings, unsplit)))


def _blocks(text: str) -> tuple[list[Token], list[int]]:
    """Parses the text after its front matter: block tokens, and where each line starts, with the text's end last."""
    start = _front_matter_end(text)
    body = text[start:]
    tokens: list[Token] = []
    parser = _parser()
    parser.block.parse(_LINE_END.sub("\n", body).replace("\0", "\ufffd"), parser, {}, tokens)
    return tokens, [start, *(start + found.end() for found in _LINE_END.finditer(body)), len(text)]


def _headings(tokens: Sequence[Token], lines: Sequence[int]) -> Iterator[Heading]:
    """Yields the headings outside of lists and quotations."""
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map:
            source = inline.content
            title = _without_marks(source[:_MAX_INLINE_CHARACTERS])
            complete = len(source) <= _MAX_INLINE_CHARACTERS and bool(title or not source.strip())
            first, after = token.map
            title = " ".join(title.split())
            if len(title) > MAX_HEADING_CHARACTERS:
                title, complete = title[: MAX_HEADING_CHARACTERS - 1].rstrip() + "…", False
            yield Heading(level=int(token.tag[1]), title=title, start=lines[first], end=lines[after], complete=complete)


def _without_marks(source: str) -> str:
    """Removes emphasis, link targets, HTML tags and trailing attributes from a line of Markdown."""
    (inline,) = _parser().parseInline(_ATTRIBUTES.sub("", source))
    seen = []
    for token in inline.children or ():
        if token.type in ("softbreak", "hardbreak"):
            seen.append(" ")
        elif token.type != "html_inline":
            seen.append(token.content)
    return "".join(seen)


def _code_and_tables(text: str, tokens: Sequence[Token], lines: Sequence[int]) -> Iterator[CodeOrTable]:
    closes = [found.end() for found in _TABLE_CLOSES.finditer(text)]
    covered = 0
    for token in tokens:
        if token.map is None or lines[token.map[0]] < covered:
            continue
        start, end = lines[token.map[0]], lines[token.map[1]]
        if token.type in ("fence", "code_block"):
            yield CodeOrTable(kind="code", start=start, end=end)
        elif token.type == "table_open":
            yield CodeOrTable(kind="table", start=start, end=end, header_end=lines[token.map[0] + 2])
        elif token.type == "html_block" and _TABLE_OPENS.match(token.content):
            # In Markdown a blank line ends the HTML block, but the table goes on.
            at = bisect_right(closes, start)
            covered = end = max(end, closes[at]) if at < len(closes) else end
            yield CodeOrTable(kind="html table", start=start, end=end, header_end=_html_header_end(text, start, end))


def _html_header_end(text: str, start: int, end: int) -> int | None:
    head = _HEAD_CLOSES.search(text, start, end)
    if head is None:
        head = _ROW_CLOSES.search(text, start, end)
        if head is None or not _HEADER_CELL.search(text, start, head.end()):
            return None
    return head.end()


def _sections(text: str, start: int, headings: Sequence[Heading], unsplit: Sequence[CodeOrTable]) -> Iterator[Section]:
    starts = [each.start for each in unsplit]

    def section(path: tuple[str, ...], start: int, end: int) -> Section:
        inside = unsplit[bisect_left(starts, start) : bisect_left(starts, end)]
        clipped = tuple(replace(each, end=end) if each.end > end else each for each in inside)
        return Section(path=path, start=start, end=end, code_and_tables=clipped)

    end = headings[0].start if headings else len(text)
    if text[start:end].strip():
        yield section((), start, end)
    above: list[Heading] = []
    for number, each in enumerate(headings, 1):
        while above and above[-1].level >= each.level:
            above.pop()
        above.append(each)
        path = tuple(one.title for one in above if one.title)
        below = headings[number] if number < len(headings) else None
        start, end = (each.end if each.complete else each.start), below.start if below else len(text)
        if text[start:end].strip():
            yield section(path, start, end)
        elif each.title and (below is None or below.level <= each.level):
            # No chunk would hold the heading otherwise.
            at = text.find(each.title, each.start, each.end)
            start, end = (at, at + len(each.title)) if at >= 0 else (each.start, each.end)
            yield Section(path=path[:-1], start=start, end=end)
