"""Events about documents and about the indexes that make them searchable."""

from __future__ import annotations

import json
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.event import MAX_DOCUMENT_CHARACTERS, Event, Identifier, Moment, Name

DEFAULT_TENANT = "default"
MAX_METADATA_BYTES = 16_384
DocumentFormat = Literal["text", "markdown", "html"]
DocumentText = Annotated[str, StringConstraints(min_length=1, max_length=MAX_DOCUMENT_CHARACTERS, pattern=r"\S")]
Metadata = dict[Annotated[str, StringConstraints(min_length=1, max_length=64)], str | int | float | bool]


def document_key(tenant: str, document_id: str) -> str:
    """Returns the key of a document's events. A tenant contains no slash, so the key can be split again."""
    return f"{tenant}/{document_id}"


class DocumentSubmitted(Event):
    """Someone published a document or a newer version of it."""

    type: ClassVar[str] = "everlearn.document.submitted.v1"
    document_id: Identifier
    tenant: Name = DEFAULT_TENANT
    text: DocumentText
    title: Annotated[str, StringConstraints(max_length=1000)] | None = None
    uri: Annotated[str, StringConstraints(max_length=2000)] | None = None
    metadata: Metadata = Field(default_factory=dict, max_length=64)
    format: DocumentFormat | None = None
    """How the text is structured. If missing, text with a Markdown heading is Markdown, and other text is plain."""
    submitted_at: Moment

    @model_validator(mode="after")
    def has_small_metadata(self) -> Self:
        # Every chunk and every hit carries the metadata.
        if len(json.dumps(self.metadata, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
            limit = f"{MAX_METADATA_BYTES:,} bytes as JSON"
            raise ValueError(f"the metadata takes more than {limit}: keep only what filters need")
        return self

    @property
    def key(self) -> str:
        return document_key(self.tenant, self.document_id)


class DocumentWithdrawn(Event):
    """Someone withdrew a document. Searches must not find it any more."""

    type: ClassVar[str] = "everlearn.document.withdrawn.v1"
    document_id: Identifier
    tenant: Name = DEFAULT_TENANT
    submitted_at: Moment

    @property
    def key(self) -> str:
        return document_key(self.tenant, self.document_id)


class DocumentIndexed(Event):
    """A document's current version is searchable."""

    type: ClassVar[str] = "everlearn.document.indexed.v1"
    document_id: Identifier
    tenant: Name = DEFAULT_TENANT
    content_hash: str
    chunk_count: int = Field(ge=0)
    embedding_model: str
    submitted_at: Moment

    @property
    def key(self) -> str:
        return document_key(self.tenant, self.document_id)


class IndexRebuildRequested(Event):
    """Someone asked to rebuild an index. The worker that rebuilds it uses the settings of its ``everlearn.toml``."""

    type: ClassVar[str] = "everlearn.index.rebuild-requested.v1"
    task: Name | None = None
    """The task whose own index is rebuilt. If missing, the index of all tasks that have none of their own."""

    @property
    def key(self) -> str:
        return "index"


class IndexRebuilt(Event):
    """An index was rebuilt and now serves searches."""

    type: ClassVar[str] = "everlearn.index.rebuilt.v1"
    index_id: str
    task: Name | None = None
    embedding_model: str
    chunk_tokens: int = Field(ge=1)
    overlap_tokens: int = Field(ge=0)
    documents: int = Field(ge=0)
    chunks: int = Field(ge=0)
    cause: str | None = None

    @property
    def key(self) -> str:
        return "index"


class IndexNotRebuilt(Event):
    """An index was not rebuilt; ``reason`` says why. The previous index still serves searches."""

    type: ClassVar[str] = "everlearn.index.not-rebuilt.v1"
    task: Name | None = None
    reason: str
    cause: str | None = None

    @property
    def key(self) -> str:
        return "index"


class DocumentUnindexed(Event):
    """A withdrawn document is no longer searchable."""

    type: ClassVar[str] = "everlearn.document.unindexed.v1"
    document_id: Identifier
    tenant: Name = DEFAULT_TENANT
    submitted_at: Moment

    @property
    def key(self) -> str:
        return document_key(self.tenant, self.document_id)
