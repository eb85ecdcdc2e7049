"""Decides which rows are held out, so that nobody outside the home can choose it.

The split is a hash with the home's secret. Rows of users go by user: whoever is held out judges, and does not teach.
With few users each input goes by itself, as the rows of examples and reviewers always do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from hashlib import sha256

from agents.trainer.candidates import Candidate
from schemas.datasets import DatasetRow, Split

BY_USER_FROM = 20
"""With fewer users, holding out whole users would leave too few of them on one side."""


def input_split(secret: str, task: str, input_key: str, share: float) -> Split:
    """Returns the split of an input that goes by itself; this share of all inputs is held out."""
    return "holdout" if _place(secret, task, f"input {input_key}") < share else "train"


def _place(secret: str, task: str, unit: str) -> float:
    """Returns where an input or a user stands between 0 and 1. Only who has the secret can foresee it."""
    digest = sha256(f"{secret}\x1f{task}\x1f{unit}".encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_rows(
    candidates: Sequence[Candidate], *, secret: str, task: str, share: float, held_out: Collection[str]
) -> list[DatasetRow]:
    """Returns the rows of the candidates with their splits. The champion's keep theirs.

    ``held_out``: keys of inputs that an earlier dataset held out; they are held out again.
    """
    users = {each.unit for each in candidates if each.circle == "named" and not each.kept}
    by_user = len(users) >= BY_USER_FROM
    places = {unit: _place(secret, task, unit) for unit in users}
    # At least one user is held out, whatever the hashes.
    users_share = max(share, min(places.values()) + 1e-9) if by_user else share

    def split_of(each: Candidate) -> Split:
        if each.kept:
            return each.row.split
        if each.row.input_key in held_out:
            return "holdout"
        if by_user and each.circle == "named":
            return "holdout" if places[each.unit] < users_share else "train"
        return input_split(secret, task, each.row.input_key, share)

    return [replace(each.row, split=split_of(each), fresh=not each.kept) for each in candidates]
