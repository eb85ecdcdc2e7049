"""Tallies of how questions turned out, and indexes by which each reader reads only what it needs.

The tallies are filled from the rows that are there, which takes up to half a minute for a million rows.
"""

from __future__ import annotations

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_HAS_ANSWER = "answered_at IS NOT NULL AND (finish_reason IS NULL OR finish_reason <> 'retrieve_only')"
_IS_RATED = "outcome IN ('approved', 'disapproved', 'corrected')"
_IS_LABELLED = "outcome IN ('approved', 'corrected')"
_WINDOW = ["task", "arm", "release_sequence", "answered_at"]
_TALLIED = ("asked", "searched", "failed", "approved", "disapproved", "corrected")
_RATER = "COALESCE(user_id, 'session:' || session_id, '')"
_AT_ONCE = 1000


def upgrade() -> None:
    """Creates the tables and indexes, and fills the new tables and columns."""
    _tallies()
    _interactions()
    _runs()
    _retention_rows()
    op.create_index("drift_checks_by_time", "drift_checks", ["checked_at"])


def _tallies() -> None:
    op.create_table(
        "arm_tallies",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("release_sequence", sa.BigInteger, primary_key=True),
        sa.Column("adapter_id", sa.Text, primary_key=True),
        sa.Column("slot", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _TALLIED),
    )
    op.create_index("arm_tallies_by_adapter", "arm_tallies", ["task", "arm", "adapter_id", "release_sequence"])
    op.create_table(
        "user_tallies",
        sa.Column("task", sa.Text, primary_key=True),
        sa.Column("release_sequence", sa.BigInteger, primary_key=True),
        sa.Column("arm", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _TALLIED),
    )
    outcomes = (f"SUM(CASE WHEN outcome = '{name}' THEN 1 ELSE 0 END)" for name in _TALLIED[2:])
    searched = "SUM(CASE WHEN finish_reason = 'retrieve_only' THEN 1 ELSE 0 END)"
    counted = ", ".join(("COUNT(*)", searched, *outcomes))
    names = ", ".join(_TALLIED)
    tallied = "task IS NOT NULL AND arm IS NOT NULL AND release_sequence IS NOT NULL AND answered_at IS NOT NULL"
    op.execute(
        f"INSERT INTO arm_tallies (task, arm, release_sequence, adapter_id, slot, {names}) "  # constants
        f"SELECT task, arm, release_sequence, COALESCE(adapter_id, ''), 0, {counted} FROM interactions "
        f"WHERE {tallied} GROUP BY task, arm, release_sequence, COALESCE(adapter_id, '')"
    )
    op.execute(
        f"INSERT INTO user_tallies (task, release_sequence, arm, user_id, {names}) "  # constants
        f"SELECT task, release_sequence, arm, {_RATER}, {counted} FROM interactions "
        f"WHERE {tallied} GROUP BY task, release_sequence, arm, {_RATER}"
    )


def _interactions() -> None:
    op.drop_index("interactions_by_task", "interactions")
    op.create_index("interactions_by_task", "interactions", ["task", "last_event_at"])
    partial = {
        "interactions_by_release": (_WINDOW, _HAS_ANSWER),
        "interactions_rated": (_WINDOW, f"{_HAS_ANSWER} AND {_IS_RATED}"),
        "interactions_labelled": (["task", "last_event_at"], _IS_LABELLED),
    }
    for name, (columns, condition) in partial.items():
        where = sa.text(condition)
        op.create_index(name, "interactions", columns, sqlite_where=where, postgresql_where=where)


def _runs() -> None:
    op.add_column("runs", sa.Column("task", sa.Text))
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    task = "json_extract(arguments, '$.task')" if is_sqlite else "CAST(arguments AS json) ->> 'task'"
    op.execute(f"UPDATE runs SET task = {task}")  # constants
    op.create_index("runs_by_task", "runs", ["agent", "task", "created_at"])


def _retention_rows() -> None:
    op.add_column("retention_rows", sa.Column("sampling_key", sa.Text))
    connection = op.get_bind()
    rows = sa.table("retention_rows", *(sa.column(name, sa.Text) for name in ("task", "row_id", "sampling_key")))
    one = (rows.c.task == sa.bindparam("of")) & (rows.c.row_id == sa.bindparam("id"))
    keyed = sa.update(rows).where(one).values(sampling_key=sa.bindparam("key"))
    # SQLite knows no SHA-256
    keys = [
        {"of": task, "id": row_id, "key": sha256(row_id.encode()).hexdigest()}
        for task, row_id in connection.execute(sa.select(rows.c.task, rows.c.row_id)).all()
    ]
    for start in range(0, len(keys), _AT_ONCE):
        connection.execute(keyed, keys[start : start + _AT_ONCE])
    op.create_index("retention_rows_by_key", "retention_rows", ["task", "sampling_key"])
