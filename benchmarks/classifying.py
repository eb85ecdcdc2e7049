"""Compares the engine's answers per second on a classifying task with transformers' own ``generate``.

``python -m benchmarks.classifying [--rows N] [--batch N]`` sends the demo's messages to both in the same batches: first
to the base model, then half of them to an adapter. The order is ours, bare, bare, ours, so that other load on the
machine slows both down. It counts the answers that differ.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from agents.demo import shop
from benchmarks.routing_messages import MAX_TOKENS, options, prompts, settings_in
from infra.engines.lora_slots import BASE
from infra.engines.transformers import TransformersEngine
from infra.models.chat import ChatFormat
from infra.models.loading import load_base_model
from infra.models.threads import in_compute_thread
from schemas.generation import GenerationRequest

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

ADAPTER = "adapter"


def requests(rows: Sequence[shop.CustomerMessage], adapter_ids: Sequence[str | None]) -> list[GenerationRequest]:
    """Makes a request for each row; the adapters take turns."""
    return [
        GenerationRequest(messages=each, max_tokens=MAX_TOKENS, adapter_id=adapter_ids[number % len(adapter_ids)])
        for number, each in enumerate(prompts(rows))
    ]


def save_adapter(model: PreTrainedModel, folder: Path) -> Path:
    """Saves a LoRA adapter of all linear layers with small random weights: its speed matters, not its answers."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear"))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.02)
    adapted.peft_config["default"].base_model_name_or_path = "base"
    adapted.save_pretrained(folder, save_embedding_layers=False)  # type: ignore[arg-type]  # the library's type is too narrow
    adapted.unload()
    return folder


def bare(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerFast, batch: Sequence[GenerationRequest]
) -> list[str]:
    """Answers with ``generate``, with whole prompts padded on the left. ``model`` may be PEFT's."""
    chat = ChatFormat(tokenizer)
    prompts = [chat.encode(request.messages) for request in batch]
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :], mask[row, width - len(prompt) :] = torch.tensor(prompt), 1
    names = [request.adapter_id or BASE for request in batch]
    mixed = {"adapter_names": names} if hasattr(model, "peft_config") else {}
    with torch.inference_mode():
        found = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=MAX_TOKENS, do_sample=False, **mixed)  # type: ignore[operator]  # torch types a module's attributes as tensors
    return [tokenizer.decode(row, skip_special_tokens=True).strip() for row in found[:, width:].tolist()]  # type: ignore[union-attr]  # transformers types it too widely


def timed(
    say: Callable[[Sequence[GenerationRequest]], list[str]], asked: Sequence[GenerationRequest], size: int
) -> tuple[float, list[str]]:
    """Returns the seconds that the answers took, and the answers."""
    began = time.monotonic()
    said = [text for start in range(0, len(asked), size) for text in say(asked[start : start + size])]
    return time.monotonic() - began, said


def main() -> None:
    messages, size = options(__doc__, batch=16)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_in(folder)
        model, tokenizer = load_base_model(settings)
        adapter = save_adapter(model, Path(folder) / ADAPTER)
        engine = TransformersEngine(model, tokenizer, base_model="base")
        other, _ = load_base_model(settings)
        for arms in ((None,), (None, ADAPTER)):
            if ADAPTER in arms:
                from peft import PeftModelForCausalLM

                engine.set_adapters({ADAPTER: adapter})
                other = PeftModelForCausalLM.from_pretrained(other, adapter, adapter_name=ADAPTER).eval()  # type: ignore[assignment]  # PEFT's wrapper serves as the model
            asked = requests(messages, arms)
            ways: dict[str, Callable[[Sequence[GenerationRequest]], list[str]]] = {
                "ours": lambda batch: [each.text for each in engine.generate(batch)],
                # It runs in the engine's thread, because a second computing thread would slow down both.
                "bare": lambda batch, peer=other: in_compute_thread(bare)(peer, tokenizer, batch),  # type: ignore[misc]
            }
            seconds: dict[str, float] = dict.fromkeys(ways, 0.0)
            answers: dict[str, list[str]] = {}
            for way in ways.values():
                way(asked[:2])
            for which in ("ours", "bare", "bare", "ours"):
                took, answers[which] = timed(ways[which], asked, size)
                seconds[which] += took
            rates = {which: 2 * len(asked) / took for which, took in seconds.items()}
            differ = sum(one != two for one, two in zip(answers["ours"], answers["bare"], strict=True))
            print(
                f"{'half through an adapter' if ADAPTER in arms else 'the base model'}: {rates['ours']:.1f} answers/s, "
                f"bare {rates['bare']:.1f}, ratio {rates['ours'] / rates['bare']:.2f}; {differ} of {len(asked)} differ"
            )


if __name__ == "__main__":
    main()
