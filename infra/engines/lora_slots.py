"""Keeps LoRA adapters beside each other in one model by PEFT, so that one batch may mix them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.engines.lora_files import LoraFiles, check_fit, read_lora
from schemas.errors import AdapterMissing

BASE = "__base__"
"""PEFT's name for no adapter, in a batch of several."""


class LoraSlots:
    """A model and the adapters in it. Not safe between threads: the engine that owns it holds a lock."""

    def __init__(self, model: Any, base_model: str) -> None:
        self._plain = model
        self._base_model = base_model
        self._peft: Any = None  # PEFT slows every layer down a little, so it is not there before the first adapter
        self._slots: dict[str, str] = {}
        self._numbers = itertools.count()

    @property
    def adapters(self) -> frozenset[str]:
        return frozenset(self._slots)

    def generate(self, adapter_ids: list[str | None], **inputs: Any) -> Any:
        """transformers' ``generate`` with an adapter, or None, for each row."""
        if self._peft is None:
            return self._plain.generate(**inputs)
        return self._peft.generate(**self._adapted(adapter_ids), **inputs)

    def forward(self, adapter_ids: list[str | None], **inputs: Any) -> Any:
        """The model's own pass, with an adapter, or None, for each row."""
        if self._peft is None:
            return self._plain(**inputs)
        return self._peft(**self._adapted(adapter_ids), **inputs)

    def _adapted(self, adapter_ids: list[str | None]) -> dict[str, Any]:
        """What a pass is told. Rows that are all of one adapter need not be taken apart in every layer: 10 to 15 %."""
        names = [BASE if each is None else self._slots[each] for each in adapter_ids]
        if BASE in names or len(set(names)) > 1:
            return {"adapter_names": names}
        if self._peft.active_adapter != names[0]:
            self._peft.set_adapter(names[0], inference_mode=True)  # 30 ms
        return {}

    @staticmethod
    def read(adapters: dict[str, Path]) -> dict[str, LoraFiles]:
        """Adapters as they lie on disk; raises AdapterMissing. Touches no model, so it needs no lock."""
        return {adapter_id: read_lora(adapter_id, adapters[adapter_id]) for adapter_id in sorted(adapters)}

    def set(self, adapters: dict[str, Path], read: Mapping[str, LoraFiles]) -> None:
        """Loads what is new, then lets go of what is not wanted; raises AdapterMissing and leaves all as it was.

        ``read``: what ``read`` gave for the new ones; one that is not there, because it was dropped since, is read now.
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

        # Names of PEFT's must not hold dots, and are never used again: an id could be anything.
        slot = f"slot{next(self._numbers)}"
        first = self._peft is None
        try:
            config = LoraConfig(task_type="CAUSAL_LM", inference_mode=True, lora_dropout=0.0, **files.settings)
            if first:
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
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise AdapterMissing(f"{adapter_id} does not load ({reason}): train it again, or roll back") from error
        return slot

    def _drop(self, adapter_ids: list[str]) -> None:
        for adapter_id in adapter_ids:
            self._remove(self._slots.pop(adapter_id))

    def _remove(self, slot: str) -> None:
        """Lets go of an adapter's weights; with the last one goes PEFT."""
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
