"""Reads a batch's rows once per transaction, not once per event."""

from __future__ import annotations

from collections.abc import Iterable

from agents.recorder.ports import FeatureTable
from schemas.features import Interaction


class BatchRows:
    """The rows of a batch as the open transaction sees them.

    A transaction may be rolled back and its effects run again, also in halves; what was read or put in an earlier
    one is forgotten, since another worker may have changed the rows in between.
    """

    def __init__(self, table: FeatureTable, answer_ids: Iterable[str]) -> None:
        self._table = table
        self._answer_ids = sorted(set(answer_ids))  # workers that lock rows in the same order cannot block each other
        self._transaction: object = None
        self._rows: dict[str, Interaction] = {}

    def find(self, answer_id: str) -> Interaction | None:
        """Inside a transaction: the row, with what this batch has put into it so far."""
        transaction = self._table.transaction()
        if transaction is not self._transaction:
            self._rows = dict(self._table.interactions(self._answer_ids))
            self._transaction = transaction
        return self._rows.get(answer_id)

    def put(self, row: Interaction) -> None:
        """Inside a transaction, after ``find``."""
        self._table.put_interaction(row)
        self._rows[row.answer_id] = row
