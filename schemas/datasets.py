"""Dataset snapshots for training and validation: the rows, and a manifest that says where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Literal

from pydantic import TypeAdapter

from schemas.event import JsonObject
from schemas.questions import ServedHistory, Turn
from schemas.words import comparable

RowOrigin = Literal["correction", "approved", "example"]
Split = Literal["train", "holdout", "golden"]
"""``golden``: an example of the golden set, which is never trained on and judges every candidate."""


@dataclass(frozen=True, kw_only=True)
class DatasetRow:
    """An input and its right output. ``origin_id``: id of the answer or example that the row comes from.

    ``sources`` and ``history``: the chunks, for a task with retrieval, and the turns of the conversation that were in
    the answer's prompt. A row that uses no field of a later version is written as before there was one, so that its
    dataset keeps its id. ``fresh``: whether the row came after those that the champion was trained on; the other rows
    replay what was learned before. ``user``: whose feedback it is; None for an example. ``trust``: how far that word is
    trusted. ``why``: why the row is in the dataset, in one line.
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
    history: ServedHistory = ()
    user: str | None = None
    tenant: str | None = None
    trust: str | None = None
    why: str = ""

    @property
    def input_key(self) -> str:
        """The form in which rows are compared by what was asked."""
        return input_key(self.input, self.history)

    @property
    def sampling_key(self) -> str:
        """A hash of the id. The rows with the smallest keys are a random sample, the same one every time."""
        return sampling_key_of(self.row_id)


def input_key(text: str, history: Sequence[Turn] = ()) -> str:
    """Returns the form in which inputs are compared: without differences in case, white space and Unicode form.

    A question after other turns is another input than the same question alone.
    """
    turns = "".join(f"{turn.role}\x1f{comparable(turn.text)}\x1e" for turn in history)
    return turns + comparable(text)


def sampling_key_of(row_id: str) -> str:
    """Returns ``DatasetRow.sampling_key`` of a row's id."""
    return sha256(row_id.encode()).hexdigest()


DATASET_ROW = TypeAdapter(DatasetRow)
"""Reads and writes a row as JSON."""

QuarantineReason = Literal[
    "empty",
    "format",
    "label",
    "too_long",
    "withdrawn",
    "retracted",
    "duplicate",
    "near_duplicate",
    "contradicted",
    "leaked",
    "burst",
    "outvoted",
    "user_share",
    "tenant_share",
    "anonymous_share",
]
REASONS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "without an input or an output",
        "format": "with control characters in the output",
        "label": "with an answer that is none of the task's labels",
        "too_long": "too long",
        "withdrawn": "whose sources were all withdrawn",
        "retracted": "whose feedback was taken back or changed",
        "duplicate": "repeated",
        "near_duplicate": "nearly repeated",
        "contradicted": "contradicted by a word that weighs more, or as much",
        "leaked": "of the evaluation sets, or nearly so",
        "burst": "that one rater gave faster than a person can",
        "outvoted": "of raters who contradict what others say of similar inputs",
        "user_share": "above a user's share",
        "tenant_share": "above a tenant's share",
        "anonymous_share": "above the share of anonymous feedback",
    }
)
"""What each reason says of rows, behind their number."""


@dataclass(frozen=True, kw_only=True)
class QuarantinedRow:
    """A row that no adapter is trained on or judged by, and why. ``detail``: what it is compared with, in one line."""

    reason: QuarantineReason
    row: DatasetRow
    detail: str = ""


QUARANTINED_ROW = TypeAdapter(QuarantinedRow)
"""Reads and writes such a row as JSON."""


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
    golden_rows: int = 0
    by_user: dict[str, int] = field(default_factory=dict)
    """Number of rows by whose feedback they are. ``session:…`` stands for who named no user."""
    by_tenant: dict[str, int] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)
    """Number of rows that were left out, by ``QuarantineReason``."""
