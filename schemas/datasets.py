"""A snapshot of what an adapter is trained and judged on: its rows, and the manifest that says where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from pydantic import TypeAdapter

RowOrigin = Literal["correction", "approved", "example"]
Split = Literal["train", "holdout"]


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """An input and its right output. ``origin_id``: the answer or the example that it came from.

    ``sources``: the chunks that stood in the answer's prompt, for a task with retrieval. ``fresh``: of the window that
    the training is about, as opposed to replay of what was learned before.
    """

    row_id: str
    input: str
    output: str
    origin: RowOrigin
    origin_id: str
    at: datetime
    split: Split
    fresh: bool = True
    sources: tuple[dict[str, Any], ...] = ()

    @property
    def sampling_key(self) -> str:
        """A hash of the id: the rows with the least keys are a fair sample, and always the same one."""
        return sampling_key_of(self.row_id)


def sampling_key_of(row_id: str) -> str:
    """Returns ``DatasetRow.sampling_key`` of a row's id."""
    return sha256(row_id.encode()).hexdigest()


DATASET_ROW = TypeAdapter(DatasetRow)
"""Reads and writes a row as JSON."""


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """``dataset_id`` is the hash of the rows and the task; the same rows are the same dataset."""

    dataset_id: str
    task: str
    created_at: datetime
    train_rows: int
    holdout_rows: int
    fresh_rows: int
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by origin."""
    window_start: datetime | None = None
    window_end: datetime | None = None
    uri: str = ""
