"""Caches the keys and values of the beginning that prompts share, such as their task's instruction, per adapter."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import DynamicCache

from infra.engines.lora_slots import LoraSlots

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WORTH = 8
"""Fewer shared tokens than this are read with each prompt: a pass of their own would take longer."""
_KEPT_TOKENS = 2048
"""How many tokens' keys and values stay in memory: 46 kB a token for SmolLM2-135M, 128 kB for a model of 8B."""

_Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, of shape (1, heads, tokens, dimension)."""


def can_share(model: PreTrainedModel) -> bool:
    """Says whether the beginning of a prompt may be cached: full attention in all layers, and no recurrent state.

    Padding stands between a shared beginning and what follows. Only full attention, which finds tokens by their
    position numbers, is not affected by how much there is.
    """
    config = model.config
    kinds = getattr(config, "layer_types", None) or ()
    windowed = getattr(config, "sliding_window", None) is not None or any(kind != "full_attention" for kind in kinds)
    # Private, but the only place where transformers says that a model keeps a recurrent state.
    return not windowed and not getattr(model, "_is_stateful", False)


def shared_prefix(prompts: Sequence[Sequence[int]]) -> int:
    """Counts the tokens at the beginning that all prompts share; at least one token of each prompt is left over."""
    first, most = prompts[0], min(map(len, prompts)) - 1
    return next((place for place in range(most) if any(each[place] != first[place] for each in prompts)), max(0, most))


class Prefixes:
    """Keeps the keys and values of instructions, for each adapter. Not safe between threads.

    ``able``: what ``can_share`` says of the model. The least recently used ones are dropped beyond ``most_tokens``.
    """

    def __init__(
        self, slots: LoraSlots, device: torch.device, *, able: bool = True, most_tokens: int = _KEPT_TOKENS
    ) -> None:
        self._slots, self._device, self.able, self._most = slots, device, able, most_tokens
        self._kept: OrderedDict[tuple[str | None, tuple[int, ...]], _Layers] = OrderedDict()

    def worth_sharing(self, prompts: Sequence[Sequence[int]], instruction: Sequence[int]) -> int:
        """Counts the instruction's tokens that all prompts begin with; 0 if they are too few to be worth caching."""
        shared = shared_prefix([instruction, *prompts]) if instruction and self.able else 0
        return shared if shared >= _WORTH else 0

    def past(self, tokens: Sequence[int], adapter_ids: Sequence[str | None]) -> DynamicCache:
        """Returns the tokens as ``past_key_values``, with a row for each adapter id; computes what is not kept yet."""
        beginning = tuple(tokens)
        layers = self._read(beginning, list(dict.fromkeys(adapter_ids)))
        past = DynamicCache()
        for number in range(len(layers[adapter_ids[0]])):
            rows = [layers[each][number] for each in adapter_ids]
            past.update(torch.cat([keys for keys, _ in rows]), torch.cat([values for _, values in rows]), number)
        return past

    def keep_only(self, adapter_ids: Collection[str]) -> None:
        """Drops what is kept for other adapters; the base model's stays."""
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
                found[arm] = [(each.keys[own].clone(), each.values[own].clone()) for each in read.layers]  # type: ignore[index, union-attr]  # transformers types it as optional
        if len(tokens) * len(arms) <= self._most:
            self._keep(tokens, found)
        return found

    def _keep(self, tokens: tuple[int, ...], found: Mapping[str | None, _Layers]) -> None:
        for arm, layers in found.items():
            self._kept[arm, tokens] = layers
            self._kept.move_to_end((arm, tokens))
        while sum(len(each) for _, each in self._kept) > self._most:
            self._kept.popitem(last=False)
