"""What the recorder needs: the feature table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from schemas.features import Example, Feedback, Interaction, TaskWindow


class FeatureTable(Protocol):
    """One row for each question, and the labelled examples. All methods run inside a transaction."""

    def transaction(self) -> object:
        """Returns the open transaction: the same object until it ends, another one afterwards."""
        ...

    def interactions(self, answer_ids: Sequence[str]) -> dict[str, Interaction]:
        """Returns the rows that exist, and locks them until the transaction ends."""
        ...

    def feedback(self, answer_ids: Sequence[str]) -> dict[str, list[Feedback]]:
        """Returns the words of all raters on these answers, for those that have any."""
        ...

    def put_interaction(self, row: Interaction) -> None: ...

    def put_feedback(self, word: Feedback) -> None:
        """Writes a rater's word, in place of an earlier one. The answer must have a row when the transaction ends."""
        ...

    def put_example(self, row: Example) -> None:
        """Writes an example. Writing it twice has no further effect."""
        ...


class KeptRows(Protocol):
    """The feature table, of which old rows may go. Each method deletes a bounded number and returns how many."""

    def prune(self, before: datetime, keep: Sequence[TaskWindow] = ()) -> int:
        """Deletes rows to which nothing happened since then, except those in these windows."""
        ...

    def prune_pending(self, before: datetime) -> int:
        """Deletes feedback whose answer has not come, where the last one is older."""
        ...
