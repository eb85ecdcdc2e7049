"""Trains a LoRA adapter on a base model: set up, train, save. PEFT adapts the model, transformers' Trainer runs it.

Only the answers are learned, so only their scores are computed. The instruction that all prompts of a task begin with
is read once a batch instead of once a row: later tokens attend to it either way, and the gradient is the same. Padding
stands on the left, so that all answers end at the same place.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from infra.engines.prefixes import can_share, shared_prefix
from infra.progress import TrainingProgress
from infra.training.batches import IGNORED, Row, collate, make_batches
from infra.training.checkpoints import full_disk_as_unavailable, last_checkpoint, remove_other_checkpoints
from schemas.errors import EverlearnError, first_line
from schemas.policies import TrainerPolicy

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, TrainerControl, TrainerState
    from transformers.modeling_outputs import CausalLMOutputWithPast

_CHECKPOINTS = 2
_WARM_UP = 0.1
_CHOOSES_ROWS = {"window_rows", "replay_share", "holdout_share", "minimum_rows", "minimum_golden", "max_tokens"}
_LIMITS_RATERS = {"user_share", "anonymous_share", "tenant_share", "burst_rows", "burst_seconds"}
_NOT_OF_LORA = {*_CHOOSES_ROWS, *_LIMITS_RATERS, "threads"}
"""Settings that choose a training's rows, or its speed. What the same rows teach does not depend on them."""


class TrainingFailed(EverlearnError):
    """A training ended without a usable adapter."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """``loss``: of the last tenth of the steps, nats per token. ``tokens``: read in all, padding not counted."""

    folder: Path
    steps: int
    tokens: int
    seconds: float
    loss: float

    @property
    def metrics(self) -> dict[str, float]:
        return {
            "loss": self.loss,
            "steps": float(self.steps),
            "tokens": float(self.tokens),
            "seconds": self.seconds,
            "tokens_per_second": self.tokens / self.seconds if self.seconds else 0.0,
        }


def train(
    model: PreTrainedModel, rows: Sequence[Row], policy: TrainerPolicy, folder: Path, *, pad_token: int,
    base_model: str, progress: TrainingProgress = lambda done, text, eta: None,
) -> Trained:  # fmt: skip
    """Trains an adapter and saves it in ``folder/adapter``.

    Resumes from the last whole checkpoint in ``folder``; the result is the same as without an interruption. Raises
    TrainingFailed when nothing was learned, Unavailable when the disk is full.
    """
    batches = make_batches(rows, batch_rows=policy.batch_rows, epochs=policy.epochs, seed=policy.seed)
    torch.manual_seed(policy.seed)
    adapted = _adapt(model, policy)
    before = _weights(adapted)
    with full_disk_as_unavailable(folder):
        remove_other_checkpoints(_name(rows, policy, base_model), folder)
    checkpoint = last_checkpoint(folder)
    watch = _Watch(len(batches), progress)
    shared = shared_prefix([row.prompt for row in rows]) if can_share(model) else 0
    trainer = _AnswerTrainer(
        model=adapted,
        args=_arguments(folder, policy, len(batches), on_gpu=next(adapted.parameters()).is_cuda),
        train_dataset=[[rows[place] for place in batch] for batch in batches],
        data_collator=lambda items: collate(items[0], pad_token, shared),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    began = time.monotonic()
    try:
        with full_disk_as_unavailable(folder):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except RuntimeError as error:
        raise TrainingFailed(f"the training failed: {first_line(error)}") from error
    seconds = time.monotonic() - began
    _check(before, _weights(adapted))
    target = folder / "adapter"
    shutil.rmtree(target, ignore_errors=True)
    # The name that the configuration gives the model, not its folder on this machine.
    adapted.peft_config["default"].base_model_name_or_path = base_model
    with full_disk_as_unavailable(folder):
        adapted.save_pretrained(target, safe_serialization=True, save_embedding_layers=False)  # type: ignore[arg-type]  # the library's type is too narrow
    read = sum(len(rows[place]) for batch in batches[watch.first_step :] for place in batch)
    return Trained(folder=target, steps=len(batches), tokens=read, seconds=seconds, loss=_last_loss(trainer.state))


def answers_loss(model: torch.nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, CausalLMOutputWithPast]:
    """Returns the mean cross-entropy of the answers' tokens in a batch, nats per token, and the model's output.

    ``batch``: as ``collate`` makes it.
    """
    inputs = dict(batch)
    keep, labels, prefix = inputs.pop("keep"), inputs.pop("labels"), inputs.pop("prefix", None)
    past = None
    if prefix is not None:
        past = model(input_ids=prefix, use_cache=True, logits_to_keep=1).past_key_values
        past.batch_repeat_interleave(len(labels))
    output = model(**inputs, past_key_values=past, use_cache=past is not None, logits_to_keep=keep)
    logits, wanted = output.logits[:, :-1].float(), labels[:, -(keep - 1) :]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
    return loss, output


class _AnswerTrainer(Trainer):
    """Trains on the cross-entropy of the answers' tokens alone."""

    def compute_loss(  # type: ignore[override]  # the other arguments do not matter here
        self, model: torch.nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **_: object
    ) -> torch.Tensor | tuple[torch.Tensor, CausalLMOutputWithPast]:
        loss, output = answers_loss(model, inputs)
        return (loss, output) if return_outputs else loss


class _Watch(TrainerCallback):
    """Reports the progress."""

    def __init__(self, steps: int, progress: TrainingProgress) -> None:
        self._steps, self._progress = steps, progress
        self._began = 0.0
        self.first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        self._began, self.first_step = time.monotonic(), state.global_step

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        done = state.global_step
        spent = time.monotonic() - self._began
        left = spent / max(1, done - self.first_step) * (self._steps - done)
        self._progress(done / self._steps, f"training: step {done} of {self._steps}", round(left, 1))


def _arguments(folder: Path, policy: TrainerPolicy, steps: int, *, on_gpu: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,  # an item is a batch
        train_sampling_strategy="sequential",  # the batches were put into a random order already
        max_steps=steps,
        learning_rate=policy.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=max(1, round(steps * _WARM_UP)),
        save_strategy="steps",
        save_steps=policy.checkpoint_steps,
        save_total_limit=_CHECKPOINTS,
        logging_steps=1,
        logging_nan_inf_filter=False,
        seed=policy.seed,
        use_cpu=not on_gpu,
        bf16=on_gpu,
        gradient_checkpointing=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to=[],
        disable_tqdm=True,
    )


def _adapt(model: PreTrainedModel, policy: TrainerPolicy) -> PeftModel:
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if policy.quantization == "nf4":
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=policy.rank,
        lora_alpha=policy.alpha,  # type: ignore[arg-type]  # the library's type is too narrow
        lora_dropout=policy.dropout,
        target_modules="all-linear",
        bias="none",
    )
    adapted = get_peft_model(model, config)
    if not any(parameter.requires_grad for parameter in adapted.parameters()):
        raise TrainingFailed("no parameter of the model would be trained: choose a model with linear layers")
    return adapted


def _weights(model: torch.nn.Module) -> list[torch.Tensor]:
    return [each.detach().clone() for each in model.parameters() if each.requires_grad]


def _check(before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]) -> None:
    if not all(bool(torch.isfinite(each).all()) for each in after):
        raise TrainingFailed("the weights are no numbers any more: lower [trainer] learning_rate")
    if all(torch.equal(one, other) for one, other in zip(before, after, strict=True)):
        raise TrainingFailed("no weight has changed: raise [trainer] learning_rate or epochs")


def _name(rows: Sequence[Row], policy: TrainerPolicy, base_model: str) -> str:
    """Names a training by everything that its result depends on."""
    return sha256(repr((base_model, policy.model_dump(exclude=_NOT_OF_LORA), rows)).encode()).hexdigest()


def _last_loss(state: TrainerState) -> float:
    """Returns the mean loss of the last tenth of the steps, including those before an interruption."""
    losses = [float(entry["loss"]) for entry in state.log_history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else float("nan")
