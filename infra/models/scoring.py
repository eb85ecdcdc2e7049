"""Measures how well a causal model knows plain text, the same way for base, adapted and quantized models."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
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
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise ValueError("a loss needs a text of two tokens at least")
    total, count = 0.0, 0
    for places in _batches([len(row) for row in rows], batch_tokens):
        ids, mask = _padded([rows[place] for place in places])
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


def mean_divergence(
    base: Callable[..., CausalLMOutputWithPast],
    adapted: Callable[..., CausalLMOutputWithPast],
    rows: Sequence[tuple[Sequence[int], int]],
    *,
    device: torch.device,
    batch_tokens: int = BATCH_TOKENS,
) -> float:
    """Returns the mean of KL(base || adapted) over all scored positions of all rows together, in nats per token.

    A row: its tokens, and how many of them are the prompt. The scored positions are the prompt's last and all behind
    it: what each model expects as the first token of the answer, and then after each token of the answer. At each of
    them the sum is over the whole vocabulary. ``base`` and ``adapted``: as ``forward`` of ``text_loss``. Raises
    ValueError without rows.
    """
    import torch

    if not rows:
        raise ValueError("a divergence needs a prompt at least")
    total, count = 0.0, 0
    for places in _batches([len(tokens) for tokens, _ in rows], batch_tokens):
        ids, mask = _padded([rows[place][0] for place in places])
        scored = mask.bool()
        for line, place in enumerate(places):
            scored[line, : rows[place][1] - 1] = False
        with torch.inference_mode():
            expected, found = (
                torch.log_softmax(
                    forward(input_ids=ids.to(device), attention_mask=mask.to(device)).logits[scored.to(device)].float(),  # type: ignore[index]  # transformers types it as optional
                    dim=-1,
                )
                for forward in (base, adapted)
            )
            total += float(torch.nn.functional.kl_div(found, expected, reduction="sum", log_target=True))
        count += int(scored.sum())
    return total / count


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Groups rows of similar length, by their places. The longest come first: shorter ones fill a batch better."""
    places = sorted(range(len(lengths)), key=lambda place: lengths[place])
    while places:
        most = max(1, batch_tokens // lengths[places[-1]])
        yield places[-most:]
        places = places[:-most]


def _padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the tokens, padded on the right, and the mask of those that are no padding. Shape (rows, longest)."""
    import torch

    ids = torch.zeros((len(rows), max(len(row) for row in rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = 1
    return ids, mask


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
