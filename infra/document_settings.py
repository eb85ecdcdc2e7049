"""The settings of documents: how they are embedded and cut, whose they are, how they are searched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from infra.policies import Table
from schemas.event import Name


class EmbeddingSettings(Table):
    model: str = "all-MiniLM-L6-v2"
    """A sentence-transformers model by name or path; the default is the one that ships with Everlearn."""
    backend: Literal["auto", "openvino", "torch"] = "auto"
    """What runs it; ``auto``: torch where there is a GPU, else OpenVINO, or torch where that does not run the model."""


class IndexerSettings(Table):
    chunk_tokens: int = Field(default=220, ge=16, le=8192)
    """The longest chunk, tokens of the embedding model."""
    overlap_tokens: int = Field(default=30, ge=0, le=1024)
    """Tokens that two neighbouring chunks share."""
    batch: int = Field(default=64, ge=1, le=1024)
    """Most documents that one worker handles together."""
    bulk_batch: int = Field(default=512, ge=1, le=4096)
    """The same of the loader, which does bulk loads."""
    keep_vectors_days: float = Field(default=30.0, ge=0)
    """How long the embedding of a text is kept after its last use, so that the text is not embedded again."""


class RetrievalSettings(Table):
    cross_encoder: str | None = None
    """A sentence-transformers cross-encoder by name or path, which puts the best hits in order; none where absent."""
    reranked: int = Field(default=24, ge=1, le=200)
    """So many hits of each search it looks at."""


class TenantsSettings(Table):
    names: tuple[Name, ...] = ()
    """The tenants that there are; any where it is empty. Documents and questions of others are refused."""
