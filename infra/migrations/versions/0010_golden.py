"""The golden set, the times at which rows arrived, and the home's secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds columns, by which examples and labelled rows are found. Older rows arrived when their last event says."""
    op.add_column("examples", sa.Column("golden", sa.Boolean, nullable=False, server_default=sa.false()))
    moment = sa.DateTime(timezone=True)
    op.add_column("examples", sa.Column("recorded_at", moment))
    op.execute("UPDATE examples SET recorded_at = submitted_at")
    op.drop_index("examples_by_task", "examples")
    op.create_index("examples_by_task", "examples", ["task", "golden", "recorded_at"])
    op.add_column("interactions", sa.Column("recorded_at", moment))
    op.execute("UPDATE interactions SET recorded_at = last_event_at")
    op.drop_index("interactions_labelled", "interactions")
    labelled = sa.text("outcome IN ('approved', 'corrected')")
    op.create_index(
        "interactions_labelled",
        "interactions",
        ["task", "recorded_at"],
        sqlite_where=labelled,
        postgresql_where=labelled,
    )
    op.create_table(
        "secrets", sa.Column("name", sa.Text, primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
