"""Journal, in-flight marks, runs, leases, documents and the feature table: what the foundation keeps in SQL."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    _delivery()
    _runs_and_leases()
    _documents()
    _features()


def _delivery() -> None:
    op.create_table(
        "journal",
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("outputs", sa.LargeBinary, nullable=False),
        sa.Column("published", sa.Boolean, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("journal_by_age", "journal", ["agent", "at"])
    unpublished = sa.column("published", sa.Boolean).is_(sa.false())
    op.create_index(
        "journal_unpublished", "journal", ["agent", "at"], sqlite_where=unpublished, postgresql_where=unpublished
    )
    op.create_table(
        "inflight",
        sa.Column("agent", sa.Text, primary_key=True),
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("suspects_to", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("alone", sa.Boolean, nullable=False),
        sa.Column("life", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
    )


def _runs_and_leases() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("agent", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("arguments", sa.Text, nullable=False),
        sa.Column("context", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("result", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
    )
    op.create_index("runs_by_state", "runs", ["agent", "state", "due_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text),
        sa.Column("until", sa.DateTime(timezone=True)),
        sa.Column("last", sa.DateTime(timezone=True)),
    )


def _documents() -> None:
    op.create_table(
        "documents",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("chunk_count", sa.Integer, nullable=False),
        sa.Column("embedding_model", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("uri", sa.Text),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("withdrawn", sa.Boolean, nullable=False),
    )
    op.create_table(
        "retired_versions",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("document_id", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("retired_versions_by_age", "retired_versions", ["retired_at"])


def _features() -> None:
    op.create_table(
        "interactions",
        sa.Column("answer_id", sa.Text, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("task", "tenant", "user_id", "session_id")),
        *(sa.Column(name, sa.Text) for name in ("question", "answer", "failure")),
        sa.Column("sources", sa.Text, nullable=False),
        *(sa.Column(name, sa.Text) for name in ("base_model", "engine", "adapter_id")),
        sa.Column("release_sequence", sa.BigInteger),
        sa.Column("arm", sa.Text),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("latency_ms", sa.Double),
        sa.Column("finish_reason", sa.Text),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.Column("answer_at", sa.DateTime(timezone=True)),
        sa.Column("answer_event", sa.Text),
        *(
            column
            for fact in ("rating", "correction", "reason")
            for column in (
                sa.Column(fact, sa.Text),
                sa.Column(f"{fact}_at", sa.DateTime(timezone=True)),
                sa.Column(f"{fact}_event", sa.Text),
            )
        ),
        sa.Column("first_event_at", sa.DateTime(timezone=True)),
        sa.Column("last_event_at", sa.DateTime(timezone=True)),
    )
    op.create_index("interactions_by_task", "interactions", ["task", "answered_at"])
    op.create_index("interactions_by_time", "interactions", ["last_event_at"])
    op.create_table(
        "examples",
        sa.Column("example_id", sa.Text, primary_key=True),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("origin", sa.Text),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("examples_by_task", "examples", ["task", "submitted_at"])
