"""The inference engine that runs wherever torch does: transformers' generation with LoRA adapters mixed in a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from infra.engines.lora_files import LoraFiles
from infra.engines.lora_slots import LoraSlots
from infra.engines.prefixes import Prefixes, can_share
from infra.models.chat import ChatFormat
from infra.models.loading import load_base_model
from infra.models.scoring import mean_divergence, text_loss
from infra.models.threads import in_compute_thread
from infra.settings import Settings
from schemas.errors import AdapterMissing, EngineCrashed
from schemas.generation import ChatMessage, Generation, GenerationRequest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from transformers.modeling_outputs import CausalLMOutputWithPast

_INSTRUCTIONS = 64
"""How many different instructions are kept as tokens."""


@dataclass(frozen=True)
class _Prompt:
    """A request, its place in the list that was asked for, and its tokens."""

    place: int
    request: GenerationRequest
    tokens: list[int]


class TransformersEngine:
    """Generates with one copy of a model. Safe between threads: all computing happens in the compute thread.

    ``max_batch_tokens`` bounds the memory of a batch: prompts and answers, padded to the longest. A longer list of
    requests is generated in several batches. Decoding is greedy at temperature 0. The same request gives the same
    text alone and among others.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        *,
        base_model: str,
        max_batch_tokens: int = 12_288,
    ) -> None:
        self._device = model.device
        self._dtype = str(model.dtype).removeprefix("torch.")
        self._window = int(model.config.max_position_embeddings)
        self._ends = _token_ids(model.generation_config.eos_token_id, tokenizer.eos_token_id)
        # The model's own sampling defaults must not change what a request asks for.
        model.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=sorted(self._ends), pad_token_id=tokenizer.pad_token_id
        )
        self._tokenizer = tokenizer
        self._chat = ChatFormat(tokenizer)
        self._slots = LoraSlots(model, base_model)
        self._prefixes = Prefixes(self._slots, self._device, able=can_share(model))
        self._instruction = lru_cache(_INSTRUCTIONS)(self._encoded_instruction)
        self._base_model = base_model
        self._max_batch_tokens = max_batch_tokens

    @classmethod
    @in_compute_thread
    def load(cls, settings: Settings) -> Self:
        """Loads an engine for the configured base model. Raises ModelMissing or ConfigurationError."""
        model, tokenizer = load_base_model(settings)
        return cls(model, tokenizer, base_model=settings.model.base)

    @property
    def name(self) -> str:
        return "transformers"

    @property
    def signature(self) -> str:
        """Names the engine, device and precision: engines with equal signatures give a request the same text."""
        return f"{self.name} {self._device.type} {self._dtype}"

    @property
    def base_model(self) -> str:
        return self._base_model

    @property
    def window(self) -> int:
        return self._window

    @property
    def adapters(self) -> frozenset[str]:
        """The ids of the loaded adapters, which requests may name."""
        return self._slots.adapters

    def count_tokens(self, messages: Sequence[ChatMessage]) -> int:
        return len(self._chat.encode(messages))

    def set_adapters(self, adapters: dict[str, Path]) -> None:
        """Makes exactly these adapters available; raises AdapterMissing, and then keeps what it had.

        Reads the files outside the compute thread, so that a batch waits only while weights are put into the model:
        about 0.3 s.
        """
        new = {each: adapters[each] for each in adapters.keys() - self.adapters}
        # A thread of its own, because the check of the weights computes too: OpenMP's helpers end with the thread.
        with ThreadPoolExecutor(1, "adapters") as reader:
            read = reader.submit(self._slots.read, new).result()
        self._set(adapters, read)

    @in_compute_thread
    def _set(self, adapters: dict[str, Path], read: dict[str, LoraFiles]) -> None:
        self._slots.set(adapters, read)
        self._prefixes.keep_only(adapters.keys())

    @in_compute_thread
    def loss(self, texts: Sequence[str], adapter_id: str | None = None) -> float:
        """Returns the mean cross-entropy of plain texts, nats per token. Raises AdapterMissing or EngineCrashed."""
        self._check_loaded(adapter_id)
        with _engine_crashes(len(texts)):
            return text_loss(
                self._forward(adapter_id), self._tokenizer, texts, device=self._device, window=self._window
            )

    @in_compute_thread
    def divergence(self, exchanges: Sequence[tuple[Sequence[ChatMessage], str]], adapter_id: str) -> float:
        """Returns the mean KL(base || adapter) over the answers' tokens. Raises AdapterMissing or EngineCrashed."""
        self._check_loaded(adapter_id)
        rows = []
        for messages, answer in exchanges:
            prompt = self._chat.encode(messages)
            rows.append(((prompt + self._chat.encode_answer(answer)[:-1])[: self._window], len(prompt)))
        with _engine_crashes(len(rows)):
            return mean_divergence(self._forward(None), self._forward(adapter_id), rows, device=self._device)

    def _forward(self, adapter_id: str | None) -> Callable[..., CausalLMOutputWithPast]:
        def forward(**inputs: torch.Tensor) -> CausalLMOutputWithPast:
            return self._slots.forward([adapter_id] * len(inputs["input_ids"]), **inputs)

        return forward

    @in_compute_thread
    def generate(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Returns a generation for each request, in order.

        Raises EngineCrashed, or AdapterMissing before anything is generated.
        """
        for request in requests:
            self._check_loaded(request.adapter_id)
        prompts = [self._prompt(place, request) for place, request in enumerate(requests)]
        done: dict[int, Generation] = {}
        with _engine_crashes(len(requests)):
            for batch in _batches(prompts, self._max_batch_tokens):
                done.update(self._run(batch))
        return [done[place] for place in range(len(requests))]

    def _check_loaded(self, adapter_id: str | None) -> None:
        if adapter_id is not None and adapter_id not in self._slots.adapters:
            raise AdapterMissing(f"{adapter_id} is not loaded: release it, or roll back")

    def _prompt(self, place: int, request: GenerationRequest) -> _Prompt:
        """Encodes a request; cuts the beginning of a prompt that does not fit into the model's window.

        Callers that count tokens, as the answerer does, never reach that limit.
        """
        request = replace(request, max_tokens=min(request.max_tokens, self._window - 1))
        tokens = self._chat.encode(request.messages)
        return _Prompt(place, request, tokens[-(self._window - request.max_tokens) :])

    def _encoded_instruction(self, first: tuple[ChatMessage, ...]) -> list[int]:
        """Encodes the first message of a prompt, if it is the system's, with an empty question behind it.

        Prompts with the same first message begin with the same tokens, up to the question.
        """
        if not first or first[0].role != "system":
            return []
        return self._chat.encode((*first, ChatMessage("user", "")))

    def _run(self, batch: Sequence[_Prompt]) -> Iterator[tuple[int, Generation]]:
        requests = [prompt.request for prompt in batch]
        adapter_ids = [request.adapter_id for request in requests]
        instruction = self._instruction(requests[0].messages[:1])
        shared = self._prefixes.worth_sharing([prompt.tokens for prompt in batch], instruction)
        width = max(len(prompt.tokens) for prompt in batch)
        ids = torch.full((len(batch), width), self._tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(batch):
            # Padding stands on the left, but behind the beginning that all rows share.
            tokens, start = torch.tensor(prompt.tokens), width - len(prompt.tokens) + shared
            ids[row, :shared], ids[row, start:] = tokens[:shared], tokens[shared:]
            mask[row, :shared] = mask[row, start:] = 1
        with torch.inference_mode():
            past = self._prefixes.past(batch[0].tokens[:shared], adapter_ids) if shared else None
            output = self._slots.generate(
                adapter_ids,
                input_ids=ids.to(self._device),
                past_key_values=past,
                attention_mask=mask.to(self._device),
                max_new_tokens=max(request.max_tokens for request in requests),
                logits_processor=[RowSampler(requests)],
                stopping_criteria=[RowLengths(requests, width, self._device)],
            )
        for prompt, tokens in zip(batch, output[:, width:].tolist(), strict=True):
            yield prompt.place, self._generation(prompt, tokens)

    def _generation(self, prompt: _Prompt, tokens: list[int]) -> Generation:
        """Decodes a row up to its end token or its own limit. The end token counts as generated."""
        tokens = tokens[: prompt.request.max_tokens]
        end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        return Generation(
            text=self._tokenizer.decode(tokens[:end], skip_special_tokens=True).strip(),  # type: ignore[union-attr]  # transformers types it too widely
            prompt_tokens=len(prompt.tokens),
            completion_tokens=len(tokens) if end is None else end + 1,
            finish_reason="length" if end is None else "stop",
        )


class RowSampler(LogitsProcessor):
    """Samples each row with its own temperature and seed, by adding Gumbel noise to its scores.

    The greatest score plus noise is a sample of the softmax (Gumbel-max trick, Maddison 2014), so greedy decoding
    samples. A row's noise comes from its own seed, so its text does not depend on the rest of the batch.
    """

    def __init__(self, requests: Sequence[GenerationRequest]) -> None:
        self._rows = [
            (row, request.temperature, torch.Generator().manual_seed(request.seed))
            for row, request in enumerate(requests)
            if request.temperature > 0
        ]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        for row, temperature, generator in self._rows:
            noise = torch.empty(scores.shape[-1]).exponential_(generator=generator).log_().neg_()
            scores[row] = scores[row] / temperature + noise.to(scores.device)
        return scores


class RowLengths(StoppingCriteria):
    """Ends each row at its own limit; the batch ends with its last row."""

    def __init__(self, requests: Sequence[GenerationRequest], prompt_length: int, device: torch.device) -> None:
        self._limits = torch.tensor([request.max_tokens for request in requests], device=device) + prompt_length

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
        return input_ids.shape[-1] >= self._limits


@contextmanager
def _engine_crashes(prompts: int) -> Iterator[None]:
    """Raises EngineCrashed for whatever fails inside the model."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError for its own failures
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EngineCrashed(
            f"the model failed on {prompts} prompts ({reason}): it is tried again with fewer at a time"
        ) from error


def _token_ids(*ids: int | list[int] | None) -> frozenset[int]:
    return frozenset(each for some in ids if some is not None for each in (some if isinstance(some, list) else [some]))


def _batches(prompts: Sequence[_Prompt], max_tokens: int) -> Iterator[list[_Prompt]]:
    """Groups prompts of similar length, so that little is padding. ``max_tokens`` bounds a batch's padded tokens."""
    batch: list[_Prompt] = []
    longest = 0
    for prompt in sorted(prompts, key=lambda each: (len(each.tokens) + each.request.max_tokens, each.place)):
        size = len(prompt.tokens) + prompt.request.max_tokens
        if batch and max(longest, size) * (len(batch) + 1) > max_tokens:
            yield batch
            batch, longest = [], 0
        batch.append(prompt)
        longest = max(longest, size)
    if batch:
        yield batch
