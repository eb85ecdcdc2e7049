"""Keeps several LoRA adapters in one model with PEFT, so that one batch may mix them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.engines.lora_files import LoraFiles, check_fit, read_lora
from schemas.errors import AdapterMissing, first_line

if TYPE_CHECKING:
    import torch
    from peft import PeftModelForCausalLM
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import CausalLMOutputWithPast

BASE = "__base__"
"""PEFT's name for no adapter, in a batch of several."""


class LoraSlots:
    """A model and the adapters in it. Not safe between threads: the engine calls it in the compute thread."""

    def __init__(self, model: PreTrainedModel, base_model: str) -> None:
        self._plain = model
        self._base_model = base_model
        # PEFT slows every layer down a little, so the model is wrapped only when the first adapter comes.
        self._peft: PeftModelForCausalLM | None = None
        self._slots: dict[str, str] = {}
        self._numbers = itertools.count()

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._slots)

    def generate(self, adapter_ids: list[str | None], **inputs: Any) -> torch.Tensor:
        """Calls transformers' ``generate`` with an adapter, or None, for each row."""
        tokens: torch.Tensor
        if self._peft is None:
            tokens = self._plain.generate(**inputs)  # type: ignore[operator]  # torch types a module's attributes as tensors
        else:
            tokens = self._peft.generate(**_select(self._peft, self._names(adapter_ids)), **inputs)
        return tokens

    def forward(self, adapter_ids: list[str | None], **inputs: Any) -> CausalLMOutputWithPast:
        """Calls the model with an adapter, or None, for each row."""
        if self._peft is None:
            return self._plain(**inputs)  # type: ignore[no-any-return]  # the library returns Any
        return self._peft(**_select(self._peft, self._names(adapter_ids)), **inputs)  # type: ignore[no-any-return]  # the library returns Any

    def _names(self, adapter_ids: list[str | None]) -> list[str]:
        return [BASE if each is None else self._slots[each] for each in adapter_ids]

    @staticmethod
    def read(adapters: dict[str, Path]) -> dict[str, LoraFiles]:
        """Reads adapters from disk; raises AdapterMissing. Touches no model, so any thread may call it."""
        return {adapter_id: read_lora(adapter_id, adapters[adapter_id]) for adapter_id in sorted(adapters)}

    def set(self, adapters: dict[str, Path], read: Mapping[str, LoraFiles]) -> None:
        """Loads new adapters, then removes those not wanted. Raises AdapterMissing, and then changes nothing.

        ``read``: the result of ``read`` for the new ones; an adapter that is missing in it is read now.
        """
        loaded: list[str] = []
        try:
            for adapter_id in sorted(adapters.keys() - self._slots.keys()):
                files = read.get(adapter_id) or read_lora(adapter_id, adapters[adapter_id])
                check_fit(adapter_id, files, self._plain, self._base_model)
                self._slots[adapter_id] = self._load(adapter_id, files)
                loaded.append(adapter_id)
        except AdapterMissing:
            self._drop(loaded)
            raise
        self._drop(sorted(self._slots.keys() - adapters.keys()))

    def _load(self, adapter_id: str, files: LoraFiles) -> str:
        from peft import LoraConfig, PeftModelForCausalLM
        from peft.utils import set_peft_model_state_dict

        # Not the id, which could be anything: PEFT's names must not hold dots. A name is never used twice.
        slot = f"slot{next(self._numbers)}"
        try:
            config = LoraConfig(task_type="CAUSAL_LM", inference_mode=True, lora_dropout=0.0, **files.settings)
            if self._peft is None:
                self._peft = PeftModelForCausalLM(self._plain, config, adapter_name=slot)
                self._peft.eval()
            else:
                self._peft.add_adapter(slot, config)
            result: Any = set_peft_model_state_dict(self._peft, files.tensors, adapter_name=slot)
            missing = [name for name in result.missing_keys if f".{slot}." in name]
            if missing or result.unexpected_keys:
                raise ValueError(f"{len(missing)} weights are missing, {len(result.unexpected_keys)} have no place")
        except (ValueError, TypeError, RuntimeError, KeyError) as error:
            self._remove(slot)
            raise AdapterMissing(
                f"{adapter_id} does not load ({first_line(error)}): train it again, or roll back"
            ) from error
        return slot

    def _drop(self, adapter_ids: list[str]) -> None:
        for adapter_id in adapter_ids:
            self._remove(self._slots.pop(adapter_id))

    def _remove(self, slot: str) -> None:
        """Frees an adapter's weights; with the last adapter, unwraps the model."""
        if self._peft is None or slot not in self._peft.peft_config:
            return
        others = [name for name in self._peft.peft_config if name != slot]
        if others:
            # PEFT warns when it must choose which adapter is active next.
            self._peft.set_adapter(others[0], inference_mode=True)
            self._peft.delete_adapter(slot)
        else:
            self._plain = self._peft.unload()
            self._peft = None


def _select(peft: PeftModelForCausalLM, names: list[str]) -> dict[str, list[str]]:
    """Selects the adapters of a batch's rows; returns the arguments that the pass needs for it.

    A batch whose rows all use one adapter has it set active, which saves splitting the rows in every layer: 10 to 15 %.
    """
    if BASE in names or len(set(names)) > 1:
        return {"adapter_names": names}
    if peft.active_adapter != names[0]:
        peft.set_adapter(names[0], inference_mode=True)  # 30 ms
    return {}
