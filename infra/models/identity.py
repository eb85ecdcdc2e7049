"""Which base model this is, to the bit: an adapter is only what it was trained to be on the very same one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.adapters.files import Card
from schemas.errors import AdapterMissing


@dataclass(frozen=True, kw_only=True)
class BaseIdentity:
    """SHA-256 in hexadecimal, of the weights with the configuration and of the chat template."""

    revision: str
    chat_template: str

    def check(self, adapter_id: str, card: Card) -> None:
        """Raises AdapterMissing when the adapter was trained on another revision or asked in other words."""
        if card.base_revision != self.revision:
            raise AdapterMissing(
                f"{adapter_id} was trained on another revision of {card.base_model} than is served: train it anew"
            )
        if card.chat_template != self.chat_template:
            raise AdapterMissing(f"{adapter_id} was trained with another chat template than is served: train it anew")


def identity_of(folder: Path, tokenizer: Any) -> BaseIdentity:
    """Of the model in a folder; reads all of its weights."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    template = hashlib.sha256(str(tokenizer.chat_template).encode()).hexdigest()
    return BaseIdentity(revision=digest.hexdigest(), chat_template=template)
