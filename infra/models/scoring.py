"""Measures how well a causal model knows plain text, the same way for base, adapted and quantized models."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from infra.durable_files import replace_file
from schemas.errors import Unavailable

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast
    from transformers.modeling_outputs import CausalLMOutputWithPast

BATCH_TOKENS = 1024
"""Padded tokens of one pass: the scores of all words for each of them are held at once."""


def text_loss(
    forward: Callable[..., CausalLMOutputWithPast],
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    *,
    device: torch.device,
    window: int,
    batch_tokens: int = BATCH_TOKENS,
) -> float:
    """Returns the mean cross-entropy over all texts together, in nats per token.

    Each text is read from its beginning and cut at the model's ``window``. ``forward``: the model, called with
    ``input_ids`` and ``attention_mask``. Raises ValueError when no text has two tokens.
    """
    import torch

    rows = [tokenizer(text, add_special_tokens=False)["input_ids"][:window] for text in texts]
    rows = sorted((row for row in rows if len(row) > 1), key=len)
    if not rows:
        raise ValueError("a loss needs a text of two tokens at least")
    total, count = 0.0, 0
    while rows:
        width = len(rows[-1])
        # The longest texts come first, because shorter ones fill the rest of a batch better.
        batch, rows = rows[-max(1, batch_tokens // width) :], rows[: -max(1, batch_tokens // width)]
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(batch):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        with torch.inference_mode():
            logits: torch.Tensor = forward(input_ids=ids.to(device), attention_mask=mask.to(device)).logits  # type: ignore[assignment]  # transformers types it as optional
            wanted = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100).to(device)
            total += float(
                torch.nn.functional.cross_entropy(
                    logits[:, :-1].float().flatten(0, 1),
                    wanted.flatten(),
                    ignore_index=-100,
                    reduction="sum",
                )
            )
        count += int(mask[:, 1:].sum())
    return total / count


def cached_loss(file: Path, source: str, measure: Callable[[], float]) -> float:
    """Returns the loss that a file keeps for the same ``source``; else measures it and writes the file.

    ``source`` names everything that the loss depends on.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # no file yet, or a damaged one
        known = json.loads(file.read_text(encoding="utf-8"))
        if known["source"] == source:
            return float(known["figure"])
    loss = measure()
    if not math.isfinite(loss):
        return loss  # JSON has no such number
    with contextlib.suppress(Unavailable, OSError):  # a loss that cannot be kept is measured again the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, [json.dumps({"source": source, "figure": loss}).encode()])
    return loss
