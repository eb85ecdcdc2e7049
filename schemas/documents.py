"""Documents coming, going and becoming searchable."""

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
    """The key of a document's events; a tenant holds no slash, so the pair can be read back."""
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
    """How the text is structured; where absent, Markdown if it has a Markdown heading, and plain text if not."""
    submitted_at: Moment

    @model_validator(mode="after")
    def has_small_metadata(self) -> Self:
        # Each chunk carries them, and so does each hit.
        if len(json.dumps(self.metadata, ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
            raise ValueError(f"metadata take more than {MAX_METADATA_BYTES:,} bytes as JSON: keep what filters need")
        return self

    @property
    def key(self) -> str:
        return document_key(self.tenant, self.document_id)


class DocumentWithdrawn(Event):
    """Someone took a document back: it must not be found any more."""

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
    """Someone asked for an index to be built anew, as ``everlearn.toml`` says where it is built."""

    type: ClassVar[str] = "everlearn.index.rebuild-requested.v1"
    task: Name | None = None
    """The task whose own index it is; where absent, the index of all that have none."""

    @property
    def key(self) -> str:
        return "index"


class IndexRebuilt(Event):
    """An index was built anew and serves."""

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
    """An index was not built anew, and why; the one before serves on."""

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
