"""How well a causal model knows plain text: mean cross-entropy, the same for base, adapted and quantized models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

BATCH_TOKENS = 1024
"""Padded tokens of one pass: the scores of all words for each of them are held at once."""


def text_loss(
    forward: Callable[..., Any],
    tokenizer: Any,
    texts: Sequence[str],
    *,
    device: torch.device,
    window: int,
    batch_tokens: int = BATCH_TOKENS,
) -> float:
    """Nats per token over all texts together, each read from its beginning and cut at the model's window.

    ``forward``: the model, called with ``input_ids`` and ``attention_mask``, giving ``logits``. Raises ValueError
    where no text has two tokens.
    """
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"][:window] for text in texts]
    rows = sorted((row for row in rows if len(row) > 1), key=len)
    if not rows:
        raise ValueError("a loss needs a text of two tokens at least")
    total, count = 0.0, 0
    while rows:
        width = len(rows[-1])
        # the longest first: what is left fits better the smaller it gets
        batch, rows = rows[-max(1, batch_tokens // width) :], rows[: -max(1, batch_tokens // width)]
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        with torch.inference_mode():
            logits = forward(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
            wanted = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100).to(device)
            total += float(
                torch.nn.functional.cross_entropy(
                    logits[:, :-1].float().flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="sum"
                )
            )
        count += int(mask[:, 1:].sum())
    return total / count
