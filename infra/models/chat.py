"""Turns chats into a model's tokens, in one place, so that the model gets the same prompts as in its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schemas.generation import ChatMessage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class ChatFormat:
    """Applies a tokenizer's chat template; removes special tokens from texts, so that no user can forge a turn."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._special = sorted({str(token) for token in tokenizer.added_tokens_decoder.values() if token.special})

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Returns the tokens of a prompt, up to where the answer begins."""
        chat = [{"role": each.role, "content": self.harmless(each.content)} for each in messages]
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_answer(self, text: str) -> list[int]:
        """Returns the tokens of an answer, with the end token."""
        tokens = self._tokenizer(self.harmless(text), add_special_tokens=False)["input_ids"]
        return [*tokens, self._tokenizer.eos_token_id]

    def harmless(self, text: str) -> str:
        """Replaces the tokens that structure a chat by spaces."""
        for token in self._special:
            text = text.replace(token, " ")
        return text
