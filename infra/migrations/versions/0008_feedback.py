"""The word of each rater on each answer, and whose word counts in a row of the feature table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"

_WORDS = ("rating", "correction", "reason")
_COLUMNS = ", ".join(f"{name}, {name}_at, {name}_event" for name in _WORDS)
_ANY = " OR ".join(f"{name} IS NOT NULL" for name in _WORDS)


def upgrade() -> None:
    """Creates the table. Who gave the feedback of earlier rows was not recorded: its rater is "unknown"."""
    for name in ("rated_by", "rating_trust", "corrected_by", "correction_trust"):
        op.add_column("interactions", sa.Column(name, sa.Text))
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "feedback",
        sa.Column("answer_id", sa.Text, sa.ForeignKey("interactions.answer_id", ondelete="CASCADE"), primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("rater", sa.Text, primary_key=True),
        *(
            column
            for name in _WORDS
            for column in (
                sa.Column(name, sa.Text),
                sa.Column(f"{name}_at", moment),
                sa.Column(f"{name}_event", sa.Text),
            )
        ),
        sa.Column("retraction_at", moment),
        sa.Column("retraction_event", sa.Text),
    )
    op.execute(
        f"INSERT INTO feedback (answer_id, source, rater, {_COLUMNS}) "  # constants
        f"SELECT answer_id, 'unknown', 'unknown', {_COLUMNS} FROM interactions WHERE {_ANY}"
    )
    op.execute(
        "UPDATE interactions SET rated_by = CASE WHEN rating IS NOT NULL THEN 'unknown' END, "
        "rating_trust = CASE WHEN rating IS NOT NULL THEN 'unknown' END, "
        "corrected_by = CASE WHEN correction IS NOT NULL THEN 'unknown' END, "
        "correction_trust = CASE WHEN correction IS NOT NULL THEN 'unknown' END "
        "WHERE rating IS NOT NULL OR correction IS NOT NULL"
    )
