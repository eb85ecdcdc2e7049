"""Makes the padded batches of tokens that a training reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

IGNORED = -100
"""The label of a token that is not learned; cross-entropy skips it by default."""


@dataclass(frozen=True)
class Row:
    """A row in tokens."""

    prompt: list[int]
    answer: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


def make_batches(rows: Sequence[Row], *, batch_rows: int, epochs: float, seed: int) -> list[list[int]]:
    """Returns batches as lists of indices into ``rows``, for all epochs in a row.

    Rows of similar length share a batch; the order of the batches is random, drawn from the seed.
    """
    generator = torch.Generator().manual_seed(seed)
    batches: list[list[int]] = []
    for _ in range(math.ceil(epochs)):
        # A little noise, so that an epoch does not batch the same rows as the one before.
        noise = torch.rand(len(rows), generator=generator) * 4.0
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]) + float(noise[place]))
        some = [order[at : at + batch_rows] for at in range(0, len(order), batch_rows)]
        batches += [some[place] for place in torch.randperm(len(some), generator=generator).tolist()]
    steps = max(1, round(len(batches) * epochs / math.ceil(epochs)))
    return batches[:steps]


def collate(rows: Sequence[Row], pad_token: int, shared: int = 0) -> dict[str, Any]:
    """Makes a batch, padded on the left.

    ``keep`` in the result: how many of the last positions hold all learned tokens, and one position before them.
    ``shared``: how many first tokens all rows have in common. These stand once in ``prefix`` of the result; the
    attention mask covers them as well.
    """
    width = max(map(len, rows)) - shared
    keep = max(len(row.answer) for row in rows) + 1
    ids = torch.full((len(rows), width), pad_token, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full((len(rows), width), IGNORED, dtype=torch.long)
    for place, row in enumerate(rows):
        tokens = [*row.prompt, *row.answer][shared:]
        ids[place, width - len(tokens) :] = torch.tensor(tokens)
        mask[place, width - len(tokens) :] = 1
        labels[place, width - len(row.answer) :] = torch.tensor(row.answer)
    batch = {
        "input_ids": ids,
        "attention_mask": torch.cat([torch.ones((len(rows), shared), dtype=torch.long), mask], dim=1),
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0) + shared,
        "labels": labels,
        "keep": keep,
    }
    return batch if not shared else {**batch, "prefix": torch.tensor([rows[0].prompt[:shared]])}
