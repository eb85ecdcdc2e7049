"""How a chat becomes a model's tokens: one place, so that a model is asked exactly as it was trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.generation import ChatMessage


class ChatFormat:
    """The chat template of a tokenizer, with what a user writes kept from speaking as the system."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = sorted({str(token) for token in tokenizer.added_tokens_decoder.values() if token.special})

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The tokens of a prompt, up to where the answer begins."""
        chat = [{"role": each.role, "content": self.harmless(each.content)} for each in messages]
        text = self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_answer(self, text: str) -> list[int]:
        """The tokens of an answer, with the token that ends it."""
        tokens = self._tokenizer(self.harmless(text), add_special_tokens=False)["input_ids"]
        return [*tokens, self._tokenizer.eos_token_id]

    def harmless(self, text: str) -> str:
        """The text without the tokens that structure a chat: a user must not speak as the system."""
        for token in self._special:
            text = text.replace(token, " ")
        return text
