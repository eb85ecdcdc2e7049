"""Compares the speed of a LoRA training with a bare PEFT loop on the same rows and batches.

``python -m benchmarks.training [--rows N] [--batch N]`` trains the packaged base model for one epoch on messages of the
demo: with the trainer's own code, and with a loop that only does forward, backward and step. The order is ours, bare,
bare, ours, so that other load on the machine slows both down.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from agents.demo import shop
from benchmarks.routing_messages import options, prompts, settings_in
from infra.models.chat import ChatFormat
from infra.models.loading import load_base_model
from infra.settings import Settings
from infra.training.batches import Row, collate, make_batches
from infra.training.lora import train
from schemas.policies import TrainerPolicy


def encode(chat: ChatFormat, rows: Sequence[shop.CustomerMessage]) -> list[Row]:
    return [
        Row(prompt=chat.encode(prompt), answer=chat.encode_answer(row.label))
        for prompt, row in zip(prompts(rows), rows, strict=True)
    ]


def bare_loop(settings: Settings, rows: Sequence[Row], policy: TrainerPolicy, pad_token: int) -> float:
    """Trains with PEFT and AdamW alone, and computes the loss of prompts too; returns the seconds."""
    from peft import LoraConfig, get_peft_model

    model, _ = load_base_model(settings)
    config = LoraConfig(task_type="CAUSAL_LM", r=policy.rank, lora_alpha=policy.alpha, target_modules="all-linear")  # type: ignore[arg-type]  # the library's type is too narrow
    adapted = get_peft_model(model, config)
    adapted.train()
    optimizer = torch.optim.AdamW([each for each in adapted.parameters() if each.requires_grad], lr=1e-4)
    batches = [
        collate([rows[place] for place in batch], pad_token)
        for batch in make_batches(rows, batch_rows=policy.batch_rows, epochs=policy.epochs, seed=policy.seed)
    ]
    began = time.monotonic()
    for batch in batches:
        keys = ("input_ids", "attention_mask", "position_ids", "labels")
        adapted(**{key: batch[key] for key in keys}, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(adapted.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return time.monotonic() - began


def _shown(seconds: Sequence[float]) -> str:
    return " and ".join(f"{each:.1f}" for each in seconds)


def main() -> None:
    messages, batch = options(__doc__, batch=8)
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_in(folder)
        _, tokenizer = load_base_model(settings)
        rows = encode(ChatFormat(tokenizer), messages)
        policy = TrainerPolicy(
            rank=8, alpha=16, dropout=0.0, epochs=1, learning_rate=1e-4, batch_rows=batch,
            checkpoint_steps=10, seed=0,
        )  # fmt: skip
        pad_token = tokenizer.pad_token_id
        warm = policy.model_copy(update={"epochs": 8 / len(rows)})
        bare_loop(settings, rows[:8], warm, pad_token)
        seconds: dict[str, list[float]] = {"ours": [], "bare": []}
        for turn, which in enumerate(("ours", "bare", "bare", "ours")):
            if which == "bare":
                seconds[which].append(bare_loop(settings, rows, policy, pad_token))
                continue
            model, _ = load_base_model(settings)
            target = Path(folder) / f"run-{turn}"
            trained = train(model, rows, policy, target, pad_token=pad_token, base_model=settings.model.base)
            seconds[which].append(trained.seconds)
    tokens = sum(map(len, rows))
    print(f"{len(rows)} rows, {tokens:,} tokens without padding, batches of {batch}, checkpoints included")
    print(f"seconds: ours {_shown(seconds['ours'])}, bare {_shown(seconds['bare'])}")
    print("| what | tokens/s | bare PEFT loop | ratio |")
    print("|---|---|---|---|")
    speed, other = (2 * tokens / sum(seconds[which]) for which in ("ours", "bare"))
    print(f"| LoRA training | {speed:.0f} | {other:.0f} | {speed / other:.2f} |")


if __name__ == "__main__":
    main()
