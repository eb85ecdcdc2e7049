"""Digests of events, ids of topics, and generations of ticks: identities that hold when something is made anew."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds nullable columns: rows of earlier versions have no digest, no topic id, and generation 0."""
    op.add_column("journal", sa.Column("digest", sa.LargeBinary))
    op.add_column("inflight", sa.Column("topic_id", sa.Text))
    op.add_column("leases", sa.Column("generation", sa.Integer))
    op.create_table(
        "kafka_topics",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("topic_id", sa.Text, nullable=False),
        sa.Column("cluster_id", sa.Text, nullable=False),
        sa.Column("met_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("earlier_cluster", sa.Text),
    )
