"""Turns chats into a model's tokens, in one place, so that the model gets the same prompts as in its training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from schemas.generation import ChatMessage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BRACKETED = re.compile(r"<+[^\s<>]+>+|\[[^\s\[\]]+\]")
"""A mark between turns that a template writes as text, such as ``[INST]``."""


class ChatFormat:
    """Applies a tokenizer's chat template. What separates turns is text where it stands in a message.

    A space behind its first character takes the meaning of such a mark: ``< |im_start|>``. So neither a user nor a
    document can forge a turn, and the reader of the prompt still sees what was written.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        template = str(tokenizer.chat_template)
        # Not every token of a template is declared special, such as Qwen's <tool_call>.
        named = {
            number for number, token in added.items() if _BRACKETED.fullmatch(str(token)) and str(token) in template
        }
        self._special = {number for number, token in added.items() if token.special and str(token).strip()} | named
        marks = {str(added[number]) for number in self._special} | set(_BRACKETED.findall(self._scaffold()))
        self._marks = sorted((mark for mark in marks if len(mark) > 1), key=len, reverse=True)
        # Such a token is also made of text that looks different and has the same normal form. The token for what a
        # vocabulary does not hold is made of any text, and separates nothing.
        self._special -= {tokenizer.unk_token_id}
        self._normalized = any(added[number].normalized for number in self._special)

    def encode(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Returns the tokens of a prompt, up to where the answer begins."""
        text = self._rendered([ChatMessage(each.role, self.harmless(each.content)) for each in messages])
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_answer(self, text: str) -> list[int]:
        """Returns the tokens of an answer, with the end token."""
        tokens = self._tokenizer(self.harmless(text), add_special_tokens=False)["input_ids"]
        return [*tokens, self._tokenizer.eos_token_id]

    def harmless(self, text: str) -> str:
        """Breaks the marks that structure a chat."""
        for mark in self._marks:
            while mark in text:
                text = text.replace(mark, f"{mark[0]} {mark[1:]}")
        if self._normalized:
            read = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            for number, (start, _) in reversed(list(zip(read["input_ids"], read["offset_mapping"], strict=True))):
                if number in self._special:
                    text = f"{text[: start + 1]} {text[start + 1 :]}"
        return text

    def _rendered(self, messages: Sequence[ChatMessage]) -> str:
        chat = [{"role": each.role, "content": each.content} for each in messages]
        return str(self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def _scaffold(self) -> str:
        """Returns what the template writes around the messages of a chat."""
        turns = [ChatMessage("user", "a"), ChatMessage("assistant", "b"), ChatMessage("user", "c")]
        try:
            return self._rendered([ChatMessage("system", "d"), *turns])
        except TemplateError:  # some models have no system messages
            return self._rendered(turns)
