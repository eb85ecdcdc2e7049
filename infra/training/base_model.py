"""Trains LoRA adapters of the configured base model, which it loads when it is first needed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from infra.adapters.files import Card, write_card
from infra.adapters.integrity import identity_of
from infra.progress import TrainingProgress
from infra.settings import Settings
from schemas.generation import ChatMessage
from schemas.policies import TrainerPolicy

if TYPE_CHECKING:
    from infra.models.chat import ChatFormat
    from infra.training.lora import Trained


class LoraTraining:
    """The base model of the settings, to be trained on. torch is imported by ``train``, not before."""

    def __init__(self, settings: Settings, policy: TrainerPolicy) -> None:
        self._settings, self._policy = settings, policy

    @cached_property
    def _chat(self) -> ChatFormat:
        from infra.models.chat import ChatFormat
        from infra.models.loading import load_tokenizer

        return ChatFormat(load_tokenizer(self._settings))

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Returns the tokens of a prompt, up to where the answer begins."""
        return self._chat.encode(messages)

    def encode_answer(self, text: str) -> list[int]:
        """Returns the tokens of an answer, with the token that ends it."""
        return self._chat.encode_answer(text)

    def train(
        self,
        task: str,
        rows: Sequence[tuple[list[int], list[int]]],
        folder: Path,
        on_progress: TrainingProgress,
    ) -> Trained:
        """Trains an adapter in the folder and puts a card beside its weights. Raises as ``lora.train`` does."""
        from infra.models.loading import load_trainable
        from infra.training.batches import Row
        from infra.training.lora import train

        base_model, nf4 = self._settings.model.base, self._policy.quantization == "nf4"
        model, tokenizer, base_folder = load_trainable(self._settings, nf4=nf4)
        trained = train(
            model,
            [Row(prompt=prompt, answer=answer) for prompt, answer in rows],
            self._policy,
            folder,
            pad_token=tokenizer.pad_token_id,
            base_model=base_model,
            progress=on_progress,
        )
        identity = identity_of(base_folder, tokenizer)
        card = Card(
            task=task, base_model=base_model, base_revision=identity.revision, chat_template=identity.chat_template
        )
        write_card(trained.folder, card)
        return trained

    def remove_checkpoints(self, folder: Path) -> None:
        """Deletes the checkpoints of a training whose adapter is registered."""
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
