"""Checks the form of rows: what a row must be for any model to learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args

from schemas.datasets import DatasetRow, QuarantineReason, RowOrigin

_CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f�]"
"""Characters that nobody writes: control characters but tabs and line ends, and the sign for what was not readable."""


def faults(rows: Sequence[DatasetRow], labels: Sequence[str]) -> dict[int, QuarantineReason]:
    """Returns by a row's number the first rule that it breaks: an empty text, a strange sign, or no label of the task.

    ``labels``: the task's, none where any output is right. Raises SchemaError for rows that no source makes.
    """
    if not rows:
        return {}
    import pandas as pd
    import pandera.pandas as pa  # its import takes a second, which the worker does not have to wait for

    text = {"empty": pa.Check(_is_filled, name="empty")}
    output = {**text, "format": pa.Check(_is_plain, name="format")}
    if labels:
        output["label"] = pa.Check(partial(_is_one_of, frozenset(labels)), name="label")
    schema = pa.DataFrameSchema(
        {
            "input": pa.Column(object, list(text.values())),
            "output": pa.Column(object, list(output.values())),
            "origin": pa.Column(object, pa.Check.isin(get_args(RowOrigin))),
        }
    )
    frame = pd.DataFrame(
        {name: pd.Series([getattr(row, name) for row in rows], dtype=object) for name in schema.columns}
    )
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        broken = errors.failure_cases.dropna(subset=["index"])
        order: list[QuarantineReason] = ["empty", "format", "label"]
        found: dict[int, QuarantineReason] = {}
        for reason in reversed(order):
            found.update((int(number), reason) for number in broken.loc[broken["check"] == reason, "index"])
        if not found or set(broken["check"]) - set(order):
            raise
        return found
    return {}


def _is_filled(texts: Any) -> Any:
    return texts.str.strip() != ""


def _is_plain(texts: Any) -> Any:
    return ~texts.str.contains(_CONTROL, regex=True)


def _is_one_of(labels: frozenset[str], texts: Any) -> Any:
    return texts.isin(labels)
