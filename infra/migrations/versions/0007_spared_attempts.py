"""Attempts at a run that do not count against it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("runs", sa.Column("spared", sa.Integer, nullable=False, server_default="0"))
