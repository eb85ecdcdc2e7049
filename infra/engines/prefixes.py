"""The beginning that prompts have in common, such as their task's instruction: read once, not once a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from infra.engines.lora_slots import LoraSlots

_WORTH = 0.25
"""Where less of a batch's tokens would be saved, a pass of its own for the beginning is not worth its time."""


def can_share(model: Any) -> bool:
    """Whether a token looks back at all before it, by its position alone: no window, no state that runs along.

    Padding stands between a shared beginning and what follows, and only such attention does not see how much.
    """
    config = model.config
    kinds = getattr(config, "layer_types", None) or ()
    windowed = getattr(config, "sliding_window", None) is not None or any(kind != "full_attention" for kind in kinds)
    return not windowed and not getattr(model, "_is_stateful", False)


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """So many tokens at the beginning of all prompts are the same; one of each prompt is left at the least."""
    first, most = prompts[0], min(map(len, prompts)) - 1
    return next((place for place in range(most) if any(each[place] != first[place] for each in prompts)), max(0, most))


def worth_sharing(prompts: Sequence[Sequence[int]], arms: int) -> int:
    """The tokens of the beginning to read apart, once for each of ``arms`` adapters; 0 where that saves too little."""
    shared = shared_prefix(prompts)
    saved = shared * (len(prompts) - arms)
    return shared if saved >= _WORTH * sum(map(len, prompts)) else 0


def read_prefix(slots: LoraSlots, tokens: Sequence[int], adapter_ids: Sequence[str | None], device: Any) -> Any:
    """What attention keeps of the tokens, a row for each of ``adapter_ids``, worked out once for each adapter."""
    arms = list(dict.fromkeys(adapter_ids))
    ids = torch.tensor([list(tokens)] * len(arms), device=device)
    past = slots.forward(arms, input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
    past.batch_select_indices(torch.tensor([arms.index(each) for each in adapter_ids], device=device))
    return past
