"""Indexes and their recipes, what documents were made from, kept embeddings; declined answers.

Documents that were indexed before have no kept content and lie in a collection of the old form: their rows are
dropped. The next ``everlearn publish documents`` of their folder publishes them again, and the indexer's sweep drops
the old collection.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "contents",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "indexes",
        sa.Column("index_id", sa.Text, primary_key=True),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("embedding_model", sa.Text, nullable=False),
        sa.Column("chunk_tokens", sa.Integer, nullable=False),
        sa.Column("overlap_tokens", sa.Integer, nullable=False),
        sa.Column("dimension", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("served_at", sa.DateTime(timezone=True)),
    )
    op.create_table(
        "vectors",
        sa.Column("embedding_model", sa.Text, primary_key=True),
        sa.Column("text_hash", sa.Text, primary_key=True),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("vectors_by_use", "vectors", ["used_at"])
    op.add_column("documents", sa.Column("next_chunk_count", sa.Integer))
    op.add_column("interactions", sa.Column("declined", sa.Boolean))
    op.execute("DELETE FROM documents WHERE NOT withdrawn")
    op.execute("DELETE FROM retired_versions")
