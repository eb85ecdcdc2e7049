"""Deletes old rows of the feature table, but never those that a drift check compares with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from agents.recorder.ports import KeptRows
from schemas.features import TaskWindow
from schemas.policies import RetentionPolicy


class Keeper:
    """Deletes rows by age, a bounded number with each call."""

    def __init__(
        self, rows: KeptRows, policy: RetentionPolicy, reference_windows: Callable[[], Sequence[TaskWindow]]
    ) -> None:
        """``reference_windows`` returns, for each task, the answers that say what is normal."""
        self._rows, self._policy, self._reference_windows = rows, policy, reference_windows

    def prune(self, now: datetime) -> int:
        """Deletes questions to which nothing happened for long; returns how many."""
        return self._rows.prune(now - timedelta(days=self._policy.feature_days), self._reference_windows())

    def prune_pending(self, now: datetime) -> int:
        """Deletes feedback whose answer will not come any more; returns how many rows."""
        return self._rows.prune_pending(now - timedelta(days=self._policy.pending_days))
