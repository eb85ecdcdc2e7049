"""Whether an adapter on disk may be examined at all: this very content, of this task and base model, safe to read."""

from __future__ import annotations

from pathlib import Path

from infra.adapters.files import read_card, size_of, verify
from schemas.errors import AdapterMissing


def check_integrity(adapter_id: str, folder: Path, *, task: str, base_model: str, max_bytes: int) -> None:
    """Raises AdapterMissing with the first thing that is wrong. Whether it fits the model's layers shows on loading."""
    check_size(adapter_id, folder, max_bytes)
    verify(adapter_id, folder)
    card = read_card(folder)
    if card.task != task:
        raise AdapterMissing(f"{adapter_id} was trained for the task {card.task}, not for {task}: train one for it")
    if Path(card.base_model).name.lower() != Path(base_model).name.lower():
        raise AdapterMissing(
            f"{adapter_id} was trained on {card.base_model}, but {base_model} is served: train it on that"
        )
    from infra.engines.lora_files import read_lora  # torch takes seconds to import

    read_lora(adapter_id, folder)


def check_size(adapter_id: str, folder: Path, max_bytes: int) -> None:
    """Raises AdapterMissing for an adapter that is too big. Reads no file, for it might not fit into memory."""
    size = size_of(folder)
    if size > max_bytes:
        raise AdapterMissing(
            f"{adapter_id} has {size} bytes, and {max_bytes} are allowed: train a smaller one, or raise [validator] "
            "max_adapter_bytes"
        )
