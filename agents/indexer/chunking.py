"""How a document is cut into chunks: by the embedding model's tokens, at paragraphs, sentences or words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from schemas.documents import DocumentSubmitted
from schemas.envelope import derived_id
from schemas.indexes import Recipe
from schemas.retrieval import Chunk

MAX_CHARACTERS = 16_000
"""The longest chunk: 64,000 bytes at most in UTF-8, which a vector store can keep as one text."""

MAX_TITLE_CHARACTERS = 120
"""Of a title that is embedded: a model reads only so many tokens, and the chunk needs them."""

Span = tuple[int, int]
_PARAGRAPH, _SENTENCE, _WORD, _NONE = 3, 2, 1, 0
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_SENTENCE_END = frozenset(".!?…:;")
_WIDE_SENTENCE_END = frozenset("。！？")
_CLOSING = "\"'”’»)]"


def make_chunks(
    event: DocumentSubmitted, version: str, token_spans: Callable[[str], Sequence[Span]], recipe: Recipe
) -> list[Chunk]:
    """A submission's chunks; their ids depend on tenant, document, version and place alone."""
    texts = split_document(
        event.text, token_spans(event.text), max_tokens=recipe.chunk_tokens, overlap_tokens=recipe.overlap_tokens
    )
    return [
        Chunk(
            chunk_id=derived_id("chunk", event.tenant, event.document_id, version, ordinal),
            tenant=event.tenant,
            document_id=event.document_id,
            version=version,
            ordinal=ordinal,
            text=text,
            title=event.title,
            uri=event.uri,
        )
        for ordinal, text in enumerate(texts)
    ]


def text_to_embed(chunk: Chunk) -> str:
    """What the embedding model reads: the title says what a chunk from the middle of a document is about."""
    return f"{chunk.title[:MAX_TITLE_CHARACTERS]}\n{chunk.text}" if chunk.title else chunk.text


def split_document(text: str, token_spans: Sequence[Span], *, max_tokens: int, overlap_tokens: int) -> list[str]:
    """Chunks of at most ``max_tokens`` tokens and MAX_CHARACTERS characters, in order; linear in the text's length.

    ``token_spans``: (start, end) characters of each token, ascending. Each chunk but the first begins with up to
    ``overlap_tokens`` tokens of the one before it. Every character that is not white space is in some chunk.
    """
    if not 0 <= overlap_tokens < max_tokens:
        raise ValueError(f"an overlap of {overlap_tokens} tokens does not fit in chunks of {max_tokens}")
    spans = list(_bounded(text, token_spans))
    if not spans:
        return list(_pieces(text, 0, len(text)))
    breaks = [_NONE] + [_strength(text, left, right) for left, right in pairwise(spans)]
    chunks: list[str] = []
    first, start = 0, 0
    while True:
        stop = _furthest(spans, first, max_tokens)
        if stop >= len(spans):
            chunks += _pieces(text, start, len(text))
            return chunks
        stop = _best_break(breaks, first + min(max(max_tokens // 2, overlap_tokens + 1), stop - first), stop)
        chunks += _pieces(text, start, spans[stop][0])
        first = _overlap_start(breaks, max(first + 1, stop - overlap_tokens), stop)
        start = spans[first][0]


def _bounded(text: str, token_spans: Sequence[Span]) -> Iterator[Span]:
    """The spans without white space, which some tokenizers count in; giant ones (a line without a space) cut."""
    for first, last in token_spans:
        start, end = first, last
        while start < end and text[start].isspace():
            start += 1
        while end > start and text[end - 1].isspace():
            end -= 1
        for at in range(start, end, MAX_CHARACTERS):
            yield at, min(at + MAX_CHARACTERS, end)


def _furthest(spans: Sequence[Span], first: int, max_tokens: int) -> int:
    """The index after the last token that still fits into a chunk which begins at ``first``."""
    stop = min(first + max_tokens, len(spans))
    while stop > first + 1 and spans[stop - 1][1] - spans[first][0] > MAX_CHARACTERS:
        stop -= 1
    return stop


def _strength(text: str, left: Span, right: Span) -> int:
    """How good a place to cut lies between two neighbouring tokens."""
    gap = text[left[1] : right[0]]
    before = text[max(left[0], left[1] - 3) : left[1]].rstrip(_CLOSING)[-1:] or text[max(0, left[0] - 1) : left[0]]
    if before in _WIDE_SENTENCE_END:
        return _SENTENCE
    if not gap or not gap[0].isspace():
        return _NONE
    if _BLANK_LINE.search(gap):
        return _PARAGRAPH
    return _SENTENCE if before in _SENTENCE_END or "\n" in gap else _WORD


def _best_break(breaks: Sequence[int], low: int, high: int) -> int:
    """The last of the strongest places between ``low`` and ``high``, both included."""
    return max(range(low, high + 1), key=lambda at: (breaks[at], at))


def _overlap_start(breaks: Sequence[int], low: int, stop: int) -> int:
    """The first word that begins in the overlap; its first token where no word does."""
    return next((at for at in range(low, stop + 1) if breaks[at] != _NONE), low)


def _pieces(text: str, start: int, end: int) -> Iterator[str]:
    """The text between two places without surrounding white space; in parts where it is too long for one chunk."""
    piece = text[start:end].strip()
    for at in range(0, len(piece), MAX_CHARACTERS):
        part = piece[at : at + MAX_CHARACTERS].strip()
        if part:
            yield part
