"""Values of a search: the chunks of documents, the query and the hits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.filters import Filter, FilterValue
from schemas.questions import SearchMode

HEADING_SEPARATOR = " > "


def headings_above(title: str | None, heading: str | None) -> list[str]:
    """Returns the title and the headings of a path, outermost first, without repeating the title."""
    path = heading.split(HEADING_SEPARATOR) if heading else []
    if title and (not path or path[0].split() != title.split()):
        path.insert(0, title)
    return path


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A piece of one version of a document, as it is embedded and found.

    ``chunk_id`` depends only on tenant, document, version and place, so a chunk that is written twice is stored once.
    ``version`` identifies the submission that the chunk belongs to; a search drops chunks of other versions.
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
    """The headings above the chunk, outermost first, joined by `` > ``."""
    metadata: Mapping[str, FilterValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that a search found. ``score`` is its cosine similarity with the query text, in every mode."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """A query for at most ``k`` chunks of the tenant's current documents that pass the filter ``where``.

    ``scope``: the task; if it has an index of its own, that index is searched.
    """

    text: str
    tenant: str
    k: int
    mode: SearchMode = "hybrid"
    where: Filter | None = None
    scope: str = ""
