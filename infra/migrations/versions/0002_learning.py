"""Datasets, the retention suite, drift checks and releases; the progress of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Creates the tables."""
    op.add_column("runs", sa.Column("progress", sa.Text))
    op.add_column("runs", sa.Column("started_at", sa.DateTime(timezone=True)))
    _training()
    _drift_and_releases()


def _training() -> None:
    op.create_table(
        "datasets",
        sa.Column("dataset_id", sa.Text, primary_key=True),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
    )
    op.create_index("datasets_by_task", "datasets", ["task", "created_at"])
    op.create_table(
        "retention_rows",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("row_id", sa.Text, primary_key=True),
        sa.Column("dataset_id", sa.Text, nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("row", sa.Text, nullable=False),
    )


def _drift_and_releases() -> None:
    op.create_table(
        "drift_checks",
        sa.Column("check_id", sa.Text, primary_key=True),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("baseline", sa.BigInteger, nullable=False),
        sa.Column("verdict", sa.Text),
        sa.Column("report_uri", sa.Text),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_index("drift_checks_by_task", "drift_checks", ["task", "checked_at"])
    op.create_table(
        "releases",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "release_history",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True),
        sa.Column("event_type", sa.Text, nullable=False),
        sa.Column("cause", sa.Text),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
    )
