"""What the promoter's guardrails see of the answers, in the users' tallies.

The columns are filled from the rows that are there, which takes up to a minute for a million rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

from schemas.features import Interaction
from schemas.guardrails import guarded

revision = "0011"
down_revision = "0010"

_KEY = ("task", "release_sequence", "arm", "user_id")
_ADDED = ("declined", "asked_back", "latency_ms", "characters")
_AT_ONCE = 1000


def upgrade() -> None:
    """Adds the columns and fills them."""
    for name in _ADDED:
        op.add_column("user_tallies", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    sums: dict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in _answers():
        asker = row.user_id or (f"session:{row.session_id}" if row.session_id else "")
        facts = Interaction(
            answer_id="",
            answer=row.answer,
            declined=row.declined,
            latency_ms=row.latency_ms,
            finish_reason=row.finish_reason,
        )
        sums[row.task, row.release_sequence, row.arm, asker].update(guarded(facts))
    table = sa.table("user_tallies", *(sa.column(name) for name in (*_KEY, *_ADDED)))
    one = sa.and_(*(table.c[name] == sa.bindparam(f"of_{name}") for name in _KEY))
    filled = sa.update(table).where(one).values({name: sa.bindparam(name) for name in _ADDED})
    rows = [
        {
            **{f"of_{name}": part for name, part in zip(_KEY, key, strict=True)},
            **{name: sums[key][name] for name in _ADDED},
        }
        for key in sums
    ]
    for start in range(0, len(rows), _AT_ONCE):
        op.get_bind().execute(filled, rows[start : start + _AT_ONCE])


def _answers() -> Iterator[Any]:
    """Yields the rows that are tallied and have an answer, a portion at a time."""
    wanted = (*_KEY, "session_id", "answer_id", "answer", "declined", "latency_ms", "finish_reason")
    table = sa.table("interactions", *(sa.column(name) for name in (*wanted, "answered_at", "failure")))
    exists = (*(table.c[name] for name in ("task", "release_sequence", "arm", "answered_at", "answer")),)
    columns = [table.c[name] for name in wanted]
    tallied = sa.and_(table.c.failure.is_(None), *(column.is_not(None) for column in exists))
    last = ""
    while True:
        portion = sa.select(*columns).where(tallied, table.c.answer_id > last).order_by(table.c.answer_id)
        rows = op.get_bind().execute(portion.limit(_AT_ONCE)).all()
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1].answer_id
