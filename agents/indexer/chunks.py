"""Makes a document's chunks, and for each chunk the text that the embedding model reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, takewhile

from agents.chunking.outline import read_outline
from agents.chunking.splitting import MAX_CHARACTERS, Span, split_document, split_outline
from agents.indexer.ports import HtmlReader
from schemas.documents import DocumentSubmitted
from schemas.envelope import derived_id
from schemas.indexes import Recipe
from schemas.retrieval import HEADING_SEPARATOR, Chunk, headings_above

__all__ = ["MAX_CHARACTERS", "Span", "make_chunks", "split_document", "text_to_embed"]

MAX_TITLE_CHARACTERS = 120
"""The longest title that is embedded. A longer one would take tokens from the chunk's text."""

MAX_PREFIX_CHARACTERS = 192
"""The longest title and headings together, about 48 tokens."""

_FIRST_DENSE = "\u0370"
"""The first character of scripts with about one token a character. Scripts before it have four characters a token."""


def make_chunks(
    event: DocumentSubmitted,
    version: str,
    token_spans: Callable[[str], Sequence[Span]],
    recipe: Recipe,
    read_html: HtmlReader,
) -> list[Chunk]:
    """Splits a submission into chunks; their ids depend on tenant, document, version and place alone."""
    if event.format == "html":
        text, title = read_html(event.text)
        outline = read_outline(text, "markdown")
    else:
        outline, title = read_outline(event.text, event.format), None
    pieces = split_outline(
        outline, token_spans(outline.text), max_tokens=recipe.chunk_tokens, overlap_tokens=recipe.overlap_tokens
    )
    return [
        Chunk(
            chunk_id=derived_id("chunk", event.tenant, event.document_id, version, ordinal),
            tenant=event.tenant,
            document_id=event.document_id,
            version=version,
            ordinal=ordinal,
            text=text,
            title=event.title or title,
            uri=event.uri,
            heading=HEADING_SEPARATOR.join(path) or None,
            metadata=event.metadata,
        )
        for ordinal, (path, text) in enumerate(pieces)
    ]


def text_to_embed(chunk: Chunk) -> str:
    """Returns the text that the embedding model reads: title, headings and the chunk's own text.

    Title and headings say what a chunk from the middle of a document is about. If the headings are too long together,
    the outermost are left out first.
    """
    title = _shortened(chunk.title or "", MAX_TITLE_CHARACTERS)
    path = headings_above(chunk.title, chunk.heading)[1 if chunk.title else 0 :]
    room = MAX_PREFIX_CHARACTERS - _size(title)
    kept: list[str] = []
    for heading in reversed(path):
        needed = _size(heading) + len(HEADING_SEPARATOR)
        if needed > room:
            break
        kept.insert(0, heading)
        room -= needed
    if path and not kept:
        kept = [_shortened(path[-1], room)]
    return "\n".join(line for line in (title, HEADING_SEPARATOR.join(kept), chunk.text) if line)


def _size(text: str) -> int:
    """Returns the length in characters. A character that takes a token of its own counts as four."""
    return sum(4 if each >= _FIRST_DENSE else 1 for each in text)


def _shortened(text: str, size: int) -> str:
    """Returns the longest beginning of a text whose ``_size`` is at most ``size``."""
    sizes = accumulate(4 if each >= _FIRST_DENSE else 1 for each in text)
    return text[: sum(1 for _ in takewhile(lambda total: total <= size, sizes))]
