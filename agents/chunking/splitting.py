"""Splits sections into chunks by the embedding model's tokens: prose at paragraphs or sentences, tables at rows.

semantic-text-splitter finds as much and takes longer; docs/documents.md has the figures.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from agents.chunking.outline import CodeOrTable, Outline, Section, plain_outline

MAX_CHARACTERS = 16_000
"""The longest chunk: at most 64,000 bytes in UTF-8, which a vector store can keep as one text."""

Span = tuple[int, int]
_PARAGRAPH, _SENTENCE, _WORD, _NONE, _NEVER = 3, 2, 1, 0, -1
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_SENTENCE_END = frozenset(".!?…:;")
_WIDE_SENTENCE_END = frozenset("。！？")
_CLOSING = "\"'”’»)]"
_ROW = {
    "code": re.compile(r"^", re.MULTILINE),
    "table": re.compile(r"^", re.MULTILINE),
    "html table": re.compile(r"<tr(?=[\s>])", re.IGNORECASE),
}


def split_document(text: str, token_spans: Sequence[Span], *, max_tokens: int, overlap_tokens: int) -> list[str]:
    """Splits plain text; see ``split_outline``."""
    pieces = split_outline(plain_outline(text), token_spans, max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    return [piece for _, piece in pieces]


def split_outline(
    outline: Outline, token_spans: Sequence[Span], *, max_tokens: int, overlap_tokens: int
) -> list[tuple[tuple[str, ...], str]]:
    """Splits a document into chunks of at most ``max_tokens`` tokens and MAX_CHARACTERS characters.

    Returns the headings above each chunk, and its text. ``token_spans``: the (start, end) characters of each token of
    the outline's text, ascending. A chunk of prose that continues a section begins with up to ``overlap_tokens``
    tokens of the chunk before it. Every character that is not white space is in some chunk. The time is linear in the
    text's length.
    """
    if not 0 <= overlap_tokens < max_tokens:
        raise ValueError(f"an overlap of {overlap_tokens} tokens does not fit in chunks of {max_tokens}")
    spans = list(_bounded(outline.text, token_spans))
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    limit = _Limit(tokens=max_tokens, characters=MAX_CHARACTERS, overlap=overlap_tokens)
    chunks: list[tuple[tuple[str, ...], str]] = []
    for section in outline.sections:
        inside = spans[bisect_right(ends, section.start) : bisect_left(starts, section.end)]
        clipped = [(max(start, section.start), min(end, section.end)) for start, end in inside]
        chunks += [(section.path, piece) for piece in _split_section(outline.text, clipped, section, limit)]
    return chunks


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """The tokens and characters that a chunk may have, and how many tokens the next chunk may repeat."""

    tokens: int
    characters: int
    overlap: int


class _Tokens:
    """A section's tokens: where each is, how good a place to split is before it, and whether it is prose."""

    def __init__(self, text: str, spans: Sequence[Span]) -> None:
        self.text, self.spans = text, spans
        self.starts = [start for start, _ in spans]
        self.breaks = [_NONE, *(_strength(text, left, right) for left, right in pairwise(spans))][: len(spans)]
        self.prose = [True] * len(spans)

    def at(self, offset: int) -> int:
        """Finds the first token that starts at a character or after it."""
        return bisect_left(self.starts, offset)

    def keep(self, first: int, last: int, limit: _Limit) -> bool:
        """Forbids splits between tokens ``first`` and ``last`` (exclusive) if all of them fit into one chunk."""
        if last - first > limit.tokens or self.spans[last - 1][1] - self.spans[first][0] > limit.characters:
            return False
        self.breaks[first + 1 : last] = [_NEVER] * (last - first - 1)
        return True

    def keep_rows(self, block: CodeOrTable, start: int, limit: _Limit) -> None:
        """Allows splits of code or a table only between its rows from ``start`` on, and in rows that do not fit."""
        rows = [start, *(found.start() for found in _ROW[block.kind].finditer(self.text, start + 1, block.end))]
        for first, last in pairwise([*map(self.at, rows), self.at(block.end)]):
            if first < last:
                self.keep(first, last, limit)
                self.breaks[first] = max(self.breaks[first], _SENTENCE)

    def split(self, first: int, last: int, start: int, end: int, limit: _Limit) -> Iterator[str]:
        """Yields the chunks of tokens ``first`` to ``last``, with the characters from ``start`` to ``end``."""
        while True:
            stop = self._furthest(first, last, limit)
            if stop >= last:
                yield from _pieces(self.text, start, end, limit.characters)
                return
            stop = self._best_break(first, stop, limit)
            yield from _pieces(self.text, start, self.spans[stop][0], limit.characters)
            first = self._overlap_start(max(first + 1, stop - limit.overlap), stop)
            start = self.spans[first][0]

    def _furthest(self, first: int, last: int, limit: _Limit) -> int:
        """The index after the last token that fits into a chunk which starts at ``first``."""
        stop = min(first + limit.tokens, last)
        while stop > first + 1 and self.spans[stop - 1][1] - self.spans[first][0] > limit.characters:
            stop -= 1
        return stop

    def _best_break(self, first: int, high: int, limit: _Limit) -> int:
        """The last of the best places in the chunk's second half, or in its first if the second must stay whole."""
        low = first + min(max(limit.tokens // 2, limit.overlap + 1), high - first)
        best = max(range(low, high + 1), key=lambda at: (self.breaks[at], at))
        if self.breaks[best] == _NEVER:
            return next((at for at in range(low, first, -1) if self.breaks[at] != _NEVER), best)
        return best

    def _overlap_start(self, low: int, stop: int) -> int:
        """The first word that starts in the overlap, or the first token if no word does. Only prose overlaps."""
        if not self.prose[stop]:
            return stop
        low = next((at + 1 for at in range(stop - 1, low - 1, -1) if not self.prose[at]), low)
        return next((at for at in range(low, stop + 1) if self.breaks[at] != _NONE), low)


def _split_section(text: str, spans: Sequence[Span], section: Section, limit: _Limit) -> Iterator[str]:
    tokens = _Tokens(text, spans)
    first, start = 0, section.start
    for block in section.code_and_tables:
        low, high = tokens.at(block.start), tokens.at(block.end)
        if low == high:
            continue
        tokens.prose[low:high] = [False] * (high - low)
        for at in {low, high} - {0, len(spans)}:
            tokens.breaks[at] = _PARAGRAPH
        if tokens.keep(low, high, limit):
            continue
        below = block.header_end or block.start
        rows, header = tokens.at(below), text[block.start : below].strip()
        if not header or 2 * (rows - low) > limit.tokens or 2 * len(header) > limit.characters:
            tokens.keep_rows(block, block.start, limit)
            continue
        # Each part of a long table begins with the table's header row.
        yield from tokens.split(first, low, start, block.start, limit)
        rest = _Limit(tokens=limit.tokens - (rows - low), characters=limit.characters - len(header) - 1, overlap=0)
        first, start = high, block.end
        tokens.keep_rows(block, below, rest)
        for part in tokens.split(rows, high, below, block.end, rest):
            yield f"{header}\n{part}"
    yield from tokens.split(first, len(spans), start, section.end, limit)


def _bounded(text: str, token_spans: Sequence[Span]) -> Iterator[Span]:
    """Removes white space, which some tokenizers include, and splits giant spans, such as a line without spaces."""
    for first, last in token_spans:
        start, end = first, last
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        for at in range(start, end, MAX_CHARACTERS):
            yield at, min(at + MAX_CHARACTERS, end)


def _strength(text: str, left: Span, right: Span) -> int:
    """Rates the place between two neighbouring tokens: how good it is to split there."""
    gap = text[left[1] : right[0]]
    before = text[max(left[0], left[1] - 3) : left[1]].rstrip(_CLOSING)[-1:] or text[max(0, left[0] - 1) : left[0]]
    if before in _WIDE_SENTENCE_END:
        return _SENTENCE
    if not gap or not gap[0].isspace():
        return _NONE
    if _BLANK_LINE.search(gap):
        return _PARAGRAPH
    return _SENTENCE if before in _SENTENCE_END or "\n" in gap else _WORD


def _pieces(text: str, start: int, end: int, characters: int) -> Iterator[str]:
    """Yields the text between two places without surrounding white space, in parts if it is too long for one chunk."""
    piece = text[start:end].strip()
    for at in range(0, len(piece), characters):
        part = piece[at : at + characters].strip()
        if part:
            yield part
