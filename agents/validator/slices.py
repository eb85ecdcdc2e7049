"""Divides the rows that an adapter was judged on by label, tenant and length, to show what an average hides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.datasets import DatasetRow
from schemas.tasks import Task

FEWEST_ROWS = 30
"""A slice with fewer rows is named and not judged."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of the judged rows. ``places``: where they stand among all of them."""

    kind: str
    """``label``, ``tenant`` or ``length``."""
    name: str
    places: tuple[int, ...]

    @property
    def is_judged(self) -> bool:
        return len(self.places) >= FEWEST_ROWS


def make_slices(task: Task, rows: Sequence[DatasetRow]) -> tuple[Slice, ...]:
    """Returns the slices of each kind, largest first. A kind by which all rows are alike has none.

    Lengths are characters of the input, in thirds of the rows that are judged.
    """
    kinds: dict[str, list[str]] = {"tenant": [row.tenant or "no tenant" for row in rows], "length": _thirds(rows)}
    if task.labels:
        kinds["label"] = [row.output for row in rows]
    return tuple(
        Slice(kind=kind, name=name, places=tuple(places))
        for kind in sorted(kinds)
        for name, places in _by_size(kinds[kind])
    )


def _by_size(names: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    places: Mapping[str, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    if len(places) > 1:
        yield from sorted(places.items(), key=lambda each: (-len(each[1]), each[0]))


def _thirds(rows: Sequence[DatasetRow]) -> list[str]:
    if not rows:
        return []
    lengths = [len(row.input) for row in rows]
    short, medium = (int(each) for each in np.quantile(lengths, (1 / 3, 2 / 3), method="inverted_cdf"))
    return [
        f"at most {short} characters"
        if length <= short
        else f"{short + 1} to {medium} characters"
        if length <= medium
        else f"more than {medium} characters"
        for length in lengths
    ]
