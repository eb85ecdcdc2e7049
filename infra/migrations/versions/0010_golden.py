"""The golden set."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Adds the column, by which examples are found too."""
    op.add_column("examples", sa.Column("golden", sa.Boolean, nullable=False, server_default=sa.false()))
    op.drop_index("examples_by_task", "examples")
    op.create_index("examples_by_task", "examples", ["task", "golden", "submitted_at"])
