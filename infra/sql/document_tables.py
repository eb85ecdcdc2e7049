"""The tables of documents and of the indexes that make them searchable."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from infra.sql.columns import UtcMoment

METADATA = MetaData()

documents = Table(
    "documents",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("chunk_count", Integer, nullable=False),
    Column("embedding_model", Text, nullable=False),
    Column("title", Text),
    Column("uri", Text),
    Column("submitted_at", UtcMoment, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("withdrawn", Boolean, nullable=False),
    Column("next_chunk_count", Integer),
)

retired_versions = Table(
    "retired_versions",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("retired_at", UtcMoment, nullable=False),
    Index("retired_versions_by_age", "retired_at"),
)

# What the current versions were made from: another index can be built without the topic's help.
contents = Table(
    "contents",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("document_id", Text, primary_key=True),
    Column("version", Text, nullable=False),
    Column("event", LargeBinary, nullable=False),
)

indexes = Table(
    "indexes",
    METADATA,
    Column("index_id", Text, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("embedding_model", Text, nullable=False),
    Column("chunk_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("created_at", UtcMoment, nullable=False),
    Column("served_at", UtcMoment),
)

# Embeddings of texts that were embedded before, so that no text is embedded twice.
vectors = Table(
    "vectors",
    METADATA,
    Column("embedding_model", Text, primary_key=True),
    Column("text_hash", Text, primary_key=True),
    Column("vector", LargeBinary, nullable=False),
    Column("used_at", UtcMoment, nullable=False),
    Index("vectors_by_use", "used_at"),
)
