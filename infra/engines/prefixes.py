"""The beginning that prompts have in common, such as their task's instruction: read once an adapter, and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from infra.engines.lora_slots import LoraSlots
from infra.lean_imports import transformers

_WORTH = 8
"""Fewer tokens are read with the rest of a prompt: a pass of their own would take longer."""
_KEPT_TOKENS = 2048
"""What attention keeps of so many tokens stays in memory: 46 kB a token of SmolLM2-135M, 128 kB of a model of 8B."""

_Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, of shape (1, heads, tokens, dimension)."""


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


class Prefixes:
    """What attention keeps of instructions, for each adapter. Not safe between threads.

    ``able``: what ``can_share`` says of the model. The least recently used go when ``most_tokens`` are kept.
    """

    def __init__(self, slots: LoraSlots, device: Any, *, able: bool = True, most_tokens: int = _KEPT_TOKENS) -> None:
        self._slots, self._device, self.able, self._most = slots, device, able, most_tokens
        self._kept: OrderedDict[tuple[str | None, tuple[int, ...]], _Layers] = OrderedDict()

    def worth_sharing(self, prompts: Sequence[Sequence[int]], instruction: Sequence[int]) -> int:
        """How many tokens at the beginning of all prompts are the instruction's; 0 where they are too few."""
        shared = shared_prefix([instruction, *prompts]) if instruction and self.able else 0
        return shared if shared >= _WORTH else 0

    def past(self, tokens: Sequence[int], adapter_ids: Sequence[str | None]) -> Any:
        """The tokens as ``past_key_values``, a row for each of ``adapter_ids``; those not kept yet are read first."""
        beginning = tuple(tokens)
        layers = self._read(beginning, list(dict.fromkeys(adapter_ids)))
        past = transformers.DynamicCache()
        for number in range(len(layers[adapter_ids[0]])):
            rows = [layers[each][number] for each in adapter_ids]
            past.update(torch.cat([keys for keys, _ in rows]), torch.cat([values for _, values in rows]), number)
        return past

    def keep_only(self, adapter_ids: Collection[str]) -> None:
        """Forgets what other adapters kept; the base model's stays."""
        for key in [key for key in self._kept if key[0] is not None and key[0] not in adapter_ids]:
            del self._kept[key]

    def _read(self, tokens: tuple[int, ...], arms: Sequence[str | None]) -> dict[str | None, _Layers]:
        missing = [arm for arm in arms if (arm, tokens) not in self._kept]
        found = {arm: self._kept[arm, tokens] for arm in arms if arm not in missing}
        if missing:
            ids = torch.tensor([tokens] * len(missing), device=self._device)
            read = self._slots.forward(missing, input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values
            for row, arm in enumerate(missing):
                own = slice(row, row + 1)
                found[arm] = [(each.keys[own].clone(), each.values[own].clone()) for each in read.layers]
        if len(tokens) * len(arms) <= self._most:
            self._keep(tokens, found)
        return found

    def _keep(self, tokens: tuple[int, ...], found: Mapping[str | None, _Layers]) -> None:
        for arm, layers in found.items():
            self._kept[arm, tokens] = layers
            self._kept.move_to_end((arm, tokens))
        while sum(len(each) for _, each in self._kept) > self._most:
            self._kept.popitem(last=False)
