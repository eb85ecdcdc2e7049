"""Decides which rows are held out, so that nobody outside the home can choose it.

The order in which users and inputs are held out is a hash with the home's secret. Rows of users go by user: whoever is
held out judges, and does not teach. With few users each input goes by itself, as the rows of examples and reviewers
always do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from agents.trainer.candidates import Candidate
from schemas.datasets import DatasetRow

BY_USER_FROM = 20
"""With fewer users, holding out whole users would leave too few of them on one side."""


def split_rows(
    candidates: Sequence[Candidate], *, secret: str, task: str, share: float, held_out: Collection[str]
) -> list[DatasetRow]:
    """Returns the rows of the candidates with their splits: this share of the new ones is held out, rounded up.

    The champion's rows keep their splits. ``held_out``: keys of inputs that an earlier dataset held out; they are held
    out again, and count.
    """
    new = [each for each in candidates if not each.kept]
    by_user = len({each.unit for each in new if each.circle == "named"}) >= BY_USER_FROM
    users: dict[Hashable, list[Candidate]] = defaultdict(list)
    inputs: dict[Hashable, list[Candidate]] = defaultdict(list)
    for each in new:
        if by_user and each.circle == "named":
            users[each.unit].append(each)
        else:
            inputs[f"input {each.row.input_key}"].append(each)
    held = {each.row.input_key for each in new if each.row.input_key in held_out}
    for groups in (users, inputs):
        held |= _first(groups, share, held, secret, task)

    def split(each: Candidate) -> DatasetRow:
        if each.kept:
            return replace(each.row, fresh=False)
        return replace(each.row, split="holdout" if each.row.input_key in held else "train", fresh=True)

    return [split(each) for each in candidates]


def _first(
    groups: Mapping[Hashable, Sequence[Candidate]], share: float, held: Collection[str], secret: str, task: str
) -> set[str]:
    """Returns the inputs of as many groups as it takes to hold out the share of their rows, in the home's own order."""
    rows = [each for group in groups.values() for each in group]
    wanted = math.ceil(share * len(rows) - 1e-9) - sum(each.row.input_key in held for each in rows)
    found: set[str] = set()
    for group in sorted(groups, key=lambda unit: _place(secret, task, unit)):
        if len(found) >= wanted:
            break
        found.update(each.row.input_key for each in groups[group] if each.row.input_key not in held)
    return found


def _place(secret: str, task: str, unit: Hashable) -> bytes:
    """Where a user or an input stands in the order. Only who has the secret can foresee it."""
    return sha256(f"{secret}\x1f{task}\x1f{unit}".encode("utf-8", "replace")).digest()
