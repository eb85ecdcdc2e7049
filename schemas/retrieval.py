"""Values that pass between documents, their embeddings and a search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of one version of a document, as it is embedded and found.

    ``chunk_id`` depends on tenant, document, version and place alone, so that writing it twice is writing it once.
    ``version`` names the submission that the chunk belongs to; a search drops chunks of other versions.
    """

    chunk_id: str
    tenant: str
    document_id: str
    version: str
    ordinal: int
    text: str
    title: str | None = None
    uri: str | None = None
    heading: str | None = None
    """The headings above the chunk, outermost first, `` > `` between them."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that a search found; ``score`` is cosine similarity, -1 to 1."""

    chunk: Chunk
    score: float
