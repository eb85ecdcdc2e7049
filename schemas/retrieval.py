"""Values that pass between documents, their embeddings and a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.filters import Filter, FilterValue
from schemas.questions import SearchMode

HEADING_SEPARATOR = " > "


def headings_above(title: str | None, heading: str | None) -> list[str]:
    """The title and the headings of a path, outermost first; a title that the path begins with stands once."""
    path = heading.split(HEADING_SEPARATOR) if heading else []
    if title and (not path or path[0].split() != title.split()):
        path.insert(0, title)
    return path


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
    metadata: Mapping[str, FilterValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A chunk that a search found; ``score`` is cosine similarity with the text searched for, in every mode."""

    chunk: Chunk
    score: float


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to look for: at most ``k`` chunks of the tenant's current documents that the filter lets pass.

    ``scope``: the task, whose own index is searched where it has one.
    """

    text: str
    tenant: str
    k: int
    mode: SearchMode = "hybrid"
    where: Filter | None = None
    scope: str = ""
