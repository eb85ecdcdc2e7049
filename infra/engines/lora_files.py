"""Reads a LoRA adapter from disk as data, and refuses one that an engine could not serve beside others.

PEFT itself would load pickles, change base weights for some initialisations, and report weights that do not fit as
warnings, or only after it loaded a part of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from schemas.errors import AdapterMissing, unavailable

_CONFIG, _WEIGHTS, _PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_PREFIX = "base_model.model."
_HONOURED = (
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
    "fan_in_fan_out",
)
"""The settings that describe a plain LoRA. Settings of its training are ignored."""
_REFUSED = (
    "use_dora",
    "use_qalora",
    "lora_bias",
    "modules_to_save",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
)
"""Settings of adapters that cannot be mixed with others in one batch."""


@dataclass(frozen=True, kw_only=True)
class LoraFiles:
    """A LoRA adapter read from disk: PEFT's settings and the tensors by name."""

    settings: dict[str, Any]
    base_model: str
    tensors: dict[str, torch.Tensor]


def read_lora(adapter_id: str, folder: Path) -> LoraFiles:
    """Reads an adapter. Raises AdapterMissing when the folder does not hold a plain LoRA in safetensors."""
    if (folder / _PICKLE).exists():
        raise AdapterMissing(f"{adapter_id} holds pickled weights ({_PICKLE}), which can run code: save safetensors")
    try:
        settings = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / _WEIGHTS)
    except FileNotFoundError as error:
        raise AdapterMissing(f"{adapter_id} has no {Path(error.filename or _WEIGHTS).name}: train it again") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise unavailable(error) or AdapterMissing(
            f"{adapter_id} cannot be read from {folder} ({error}): train it again"
        ) from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise AdapterMissing(f"{adapter_id} is not a LoRA: train one with PEFT's LoraConfig")
    odd = [name for name in _REFUSED if settings.get(name)]
    if settings.get("bias") not in (None, "none"):
        odd.append("bias")
    if odd:
        raise AdapterMissing(f"{adapter_id} is not a plain LoRA ({', '.join(odd)}): train it without")
    if not tensors or not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise AdapterMissing(f"{adapter_id} holds no weights, or some that are no numbers: train it again")
    return LoraFiles(
        settings={name: settings[name] for name in _HONOURED if settings.get(name) is not None},
        base_model=str(settings.get("base_model_name_or_path") or ""),
        tensors=tensors,
    )


def check_fit(adapter_id: str, files: LoraFiles, model: torch.nn.Module, base_model: str) -> None:
    """Raises AdapterMissing when the adapter was made for another base model than this."""
    trained_on, served = Path(files.base_model).name, Path(base_model).name
    if trained_on and trained_on.lower() != served.lower():
        raise AdapterMissing(f"{adapter_id} was trained on {trained_on}, but {served} is served: train it on that")
    for name, tensor in files.tensors.items():
        target, _, side = name.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
        try:
            module = model.get_submodule(target)
        except AttributeError:
            module = None
        linear = getattr(module, "base_layer", module)
        if side not in ("lora_A", "lora_B") or not isinstance(linear, torch.nn.Linear):
            raise AdapterMissing(f"{adapter_id} changes {name}, which {served} does not have: train it on that")
        wanted = (1, linear.in_features) if side == "lora_A" else (0, linear.out_features)
        if tensor.dim() != 2 or tensor.shape[wanted[0]] != wanted[1]:
            raise AdapterMissing(
                f"{adapter_id} does not fit {served}: {name} has shape {tuple(tensor.shape)}; train it on that model"
            )
