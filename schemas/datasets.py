"""Dataset snapshots for training and validation: the rows, and a manifest that says where they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal

from pydantic import TypeAdapter

from schemas.event import JsonObject

RowOrigin = Literal["correction", "approved", "example"]
Split = Literal["train", "holdout", "golden"]
"""``golden``: an example of the golden set, which is never trained on and judges every candidate."""


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """An input and its right output. ``origin_id``: id of the answer or example that the row comes from.

    ``sources``: the chunks in the answer's prompt, for a task with retrieval. ``fresh``: whether the row is from the
    window that this training is about; the other rows replay what was learned before. ``user``: whose feedback it is;
    None for an example. ``trust``: how far that word is trusted. ``why``: why the row is in the dataset, in one line.
    """

    row_id: str
    input: str
    output: str
    origin: RowOrigin
    origin_id: str
    at: datetime
    split: Split
    fresh: bool = True
    sources: tuple[JsonObject, ...] = ()
    user: str | None = None
    tenant: str | None = None
    trust: str | None = None
    why: str = ""

    @property
    def sampling_key(self) -> str:
        """A hash of the id. The rows with the smallest keys are a random sample, the same one every time."""
        return sampling_key_of(self.row_id)


def sampling_key_of(row_id: str) -> str:
    """Returns ``DatasetRow.sampling_key`` of a row's id."""
    return sha256(row_id.encode()).hexdigest()


DATASET_ROW = TypeAdapter(DatasetRow)
"""Reads and writes a row as JSON."""


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """Describes a dataset. ``dataset_id`` is a hash of the task and the rows, so the same rows have the same id."""

    dataset_id: str
    task: str
    created_at: datetime
    train_rows: int
    holdout_rows: int
    fresh_rows: int
    counts: dict[str, int] = field(default_factory=dict)
    """Number of rows by origin."""
    window_start: datetime | None = None
    window_end: datetime | None = None
    uri: str = ""
