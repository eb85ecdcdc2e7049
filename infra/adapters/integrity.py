"""Checks that an adapter on disk is what it claims to be, and that it was made for the model that is served."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.adapters.files import Card, read_card, size_of, verify
from schemas.errors import AdapterMissing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def check_integrity(adapter_id: str, folder: Path, *, task: str, base_model: str, max_bytes: int) -> None:
    """Checks size, content, task, base model and weights; raises AdapterMissing with the first fault.

    Whether the weights fit the model's layers shows only when an engine loads them.
    """
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
    """Raises AdapterMissing for an adapter that is too big, before anything reads it into memory."""
    size = size_of(folder)
    if size > max_bytes:
        raise AdapterMissing(
            f"{adapter_id} has {size} bytes, and {max_bytes} are allowed: train a smaller one, or raise [validator] "
            "max_adapter_bytes"
        )


@dataclass(frozen=True, kw_only=True)
class BaseIdentity:
    """Identifies a base model to the bit, because an adapter works only on the very model that it was trained on.

    SHA-256 in hexadecimal, of the weights with the configuration and of the chat template.
    """

    revision: str
    chat_template: str

    def check(self, adapter_id: str, card: Card) -> None:
        """Raises AdapterMissing when the adapter was trained on another revision or with another chat template."""
        if card.base_revision != self.revision:
            raise AdapterMissing(
                f"{adapter_id} was trained on another revision of {card.base_model} than is served: train it again"
            )
        if card.chat_template != self.chat_template:
            raise AdapterMissing(f"{adapter_id} was trained with another chat template than is served: train it again")


def identity_of(folder: Path, tokenizer: PreTrainedTokenizerFast) -> BaseIdentity:
    """Computes the identity of the model in a folder; reads all of its weights."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    template = hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()
    return BaseIdentity(revision=digest.hexdigest(), chat_template=template)
