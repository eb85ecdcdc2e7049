"""Indexes by age, for what is deleted when it is old."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0007"


def upgrade() -> None:
    """Creates the indexes."""
    op.create_index("runs_by_end", "runs", ["agent", "finished_at"])
    op.create_index("datasets_by_age", "datasets", ["created_at"])
    pending = sa.column("answer_at").is_(None)
    op.create_index(
        "interactions_pending", "interactions", ["last_event_at"], sqlite_where=pending, postgresql_where=pending
    )
