"""LoRA training on a tiny model: it learns, goes on after a crash as if there had been none, and names its failures."""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.models.loading import load_causal_lm
from schemas.errors import Unavailable
from schemas.policies import TrainerPolicy
from tests.lazily import lazily

torch = lazily("torch")
lora = lazily("infra.training.lora")
lora_rows = lazily("infra.training.batches")
lora_checkpoints = lazily("infra.training.checkpoints")

POLICY = {
    "rank": 4, "alpha": 8.0, "dropout": 0.0, "epochs": 4.0, "learning_rate": 2e-2, "batch_rows": 4,
    "checkpoint_steps": 5, "seed": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def load(tiny_model: Path) -> Any:
    import transformers

    return lambda: transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


def learn(model: Any, folder: Path, *, progress: Callable[..., None] = lambda *_: None, **changes: Any) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [lora_rows.Row(prompt=[2, 3, 4 + number % 8, 5], answer=[10 + number % 2, 0]) for number in range(32)]
    policy = TrainerPolicy(**{**POLICY, **changes})
    return lora.train(model, rows, policy, folder, pad_token=0, base_model="tiny", progress=progress)


@pytest.fixture(scope="module")
def undisturbed(load: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a training came to that nothing befell. Whoever changes its folder takes ``a_copy``."""
    return learn(load(), tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def a_copy(undisturbed: Any, tmp_path: Path) -> Path:
    """The undisturbed training's folder, with its checkpoints."""
    return Path(shutil.copytree(undisturbed.folder.parent, tmp_path / "copy"))


def in_a_child(action: Callable[[], object]) -> multiprocessing.process.BaseProcess:
    """Begins it in a process that was forked from this one, so that no library is loaded anew."""

    def alone() -> None:
        torch.set_num_threads(1)  # a fork takes no thread along, and torch would wait for its own
        action()

    child = multiprocessing.get_context("fork").Process(target=alone, daemon=True)
    child.start()
    return child


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "adapter_model.safetensors"))


def test_it_learns_what_the_rows_say_and_leaves_safetensors_under_the_models_name(load: Any, tmp_path: Path):
    told: list[float] = []

    trained = learn(load(), tmp_path, progress=lambda done, text, eta: told.append(done))

    assert trained.loss < 2.5  # drawn by lot among 23 words it would be 3.1
    assert (trained.steps, trained.tokens) == (32, 32 * 4 * 6)
    assert told == sorted(told)
    assert told[-1] == 1.0
    files = {path.name for path in trained.folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    assert not {name for name in files if name.endswith((".bin", ".pt", ".pth"))}
    config = json.loads((trained.folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == ("tiny", 4)


def test_the_same_rows_give_the_same_weights(load: Any, undisturbed: Any, tmp_path: Path):
    one, two = weights(undisturbed.folder), weights(learn(load(), tmp_path).folder)

    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_that_was_killed_goes_on_to_the_very_same_adapter(load: Any, undisturbed: Any, tmp_path: Path):
    folder = tmp_path / "killed"

    def slowly(done: float, text: str, eta: float | None) -> None:
        if done > 0.5:
            time.sleep(1)

    child = in_a_child(lambda: learn(load(), folder, progress=slowly))
    deadline = time.monotonic() + 120
    while not (folder / "checkpoint-15" / "trainer_state.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    child.kill()
    child.join()
    assert not (folder / "adapter").exists()

    resumed = learn(load(), folder)

    assert resumed.tokens < 32 * 4 * 6
    before, after = weights(undisturbed.folder), weights(resumed.folder)
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_a_checkpoint_that_was_cut_off_is_passed_over(a_copy: Path):
    whole = lora_checkpoints.last_checkpoint(a_copy)
    assert whole is not None
    number = int(whole.name.rpartition("-")[2])
    for name, cut in (
        ("optimizer.pt", 100), ("adapter_model.safetensors", 50), ("rng_state.pth", 200), ("trainer_state.json", 10),
    ):  # fmt: skip
        number += 5
        broken = a_copy / f"checkpoint-{number}"
        shutil.copytree(whole, broken)
        (broken / name).write_bytes((whole / name).read_bytes()[:cut])
    (a_copy / f"checkpoint-{number + 5}").mkdir()

    assert lora_checkpoints.last_checkpoint(a_copy) == whole
    assert sorted(path.name for path in a_copy.glob("checkpoint-*"))[-1] == whole.name


def test_a_training_that_died_after_its_last_step_still_tells_its_loss(load: Any, undisturbed: Any, a_copy: Path):
    before = weights(undisturbed.folder)
    shutil.rmtree(a_copy / undisturbed.folder.name)

    again = learn(load(), a_copy)

    assert again.loss == undisturbed.loss
    assert all(torch.equal(before[name], after) for name, after in weights(again.folder).items())


def test_settings_that_only_choose_rows_start_no_training_anew(load: Any, a_copy: Path):
    limits: dict[str, Any] = {
        "user_share": 0.5,
        "anonymous_share": 0.5,
        "tenant_share": 0.5,
        "burst_rows": 9,
        "burst_seconds": 9.0,
    }

    again = learn(load(), a_copy, **limits, window_rows=999, minimum_golden=9)

    assert again.tokens < 32 * 4 * 6


def test_checkpoints_of_other_settings_are_not_gone_on_from(load: Any, a_copy: Path, tmp_path: Path):
    other = learn(load(), a_copy, rank=2)

    assert other.tokens == 32 * 4 * 6
    calm = learn(load(), tmp_path / "calm", rank=2)
    assert all(torch.equal(one, weights(calm.folder)[name]) for name, one in weights(other.folder).items())


def test_on_a_base_model_in_four_bits_it_learns_as_well(tiny_model: Path, tmp_path: Path):
    model, _ = load_causal_lm(tiny_model, quantization="nf4")

    trained = learn(model, tmp_path, quantization="nf4")

    assert trained.loss < 2.5
    assert {tensor.dtype for tensor in weights(trained.folder).values()} == {torch.float32}


def test_a_disk_that_is_full_ends_it_with_one_line_whatever_file_it_meets(load: Any, tmp_path: Path):
    # A limit on the size of files refuses as a full disk does, and only that process. The limits are met by the model
    # card, the weights and the optimizer's state.
    said = multiprocessing.get_context("fork").SimpleQueue()

    def learn_on_full_disks() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        for limit in (4096, 20_000, 60_000):
            model = load()
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
            try:
                learn(model, tmp_path / str(limit))
            except Unavailable as error:
                said.put(str(error))
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    child = in_a_child(learn_on_full_disks)
    child.join(120)
    assert child.exitcode == 0
    refused = []
    while not said.empty():
        refused.append(said.get())

    assert len(refused) == 3
    assert all(line.endswith("make room there") and "\n" not in line for line in refused)
    assert not list(tmp_path.glob("*/adapter"))
    assert all(lora_checkpoints.last_checkpoint(folder) is None for folder in tmp_path.iterdir())


def test_a_training_that_changes_nothing_is_no_training(load: Any, tmp_path: Path):
    with pytest.raises(lora.TrainingFailed, match="no weight has changed"):
        learn(load(), tmp_path, learning_rate=1e-60, epochs=1)  # too small for a 32-bit float


def test_a_training_that_runs_away_is_no_training(load: Any, tmp_path: Path):
    with pytest.raises(lora.TrainingFailed, match="learning_rate"):
        learn(load(), tmp_path, learning_rate=1e30)


def test_every_epoch_has_each_row_once_and_lora_rows_like_length_stand_together():
    rows = [lora_rows.Row(prompt=[1] * (3 + number), answer=[2]) for number in range(40)]
    batches = lora_rows.make_batches(rows, epochs=2.0, batch_rows=8, seed=3)

    assert len(batches) == 10
    assert sorted(place for batch in batches[:5] for place in batch) == list(range(40))
    spread = [max(len(rows[place]) for place in batch) - min(len(rows[place]) for place in batch) for batch in batches]
    assert max(spread) < 16
    assert len(lora_rows.make_batches(rows, epochs=0.5, batch_rows=8, seed=3)) == 2


def test_padding_stands_on_the_left_and_only_answers_are_learned():
    batch = lora_rows.collate([lora_rows.Row([5, 6, 7], [8, 9]), lora_rows.Row([5], [8])], pad_token=0)

    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [0, 0, 0, 5, 8]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]]
    assert batch["labels"].tolist() == [
        [lora_rows.IGNORED, lora_rows.IGNORED, lora_rows.IGNORED, 8, 9],
        [lora_rows.IGNORED] * 4 + [8],
    ]
    assert batch["keep"] == 3


def test_a_shared_beginning_stands_once():
    rows = [lora_rows.Row([5, 6, 7], [8, 9]), lora_rows.Row([5, 6, 1, 2], [8])]
    batch = lora_rows.collate(rows, pad_token=0, shared=2)
    assert batch["prefix"].tolist() == [[5, 6]]
    assert batch["input_ids"].tolist() == [[7, 8, 9], [1, 2, 8]]
    assert batch["attention_mask"].tolist() == [[1] * 5] * 2
    assert batch["position_ids"].tolist() == [[2, 3, 4]] * 2


def test_reading_a_shared_beginning_once_changes_neither_loss_nor_gradient(load: Any):
    rows = [lora_rows.Row([2, 3, 4, 5 + number], [10 + number, 0]) for number in range(3)] + [
        lora_rows.Row([2, 3, 4, 9, 8, 7], [11, 0])
    ]
    found = []
    for shared in (0, 3):
        model = load()
        loss, _ = lora.answers_loss(model, lora_rows.collate(rows, pad_token=0, shared=shared))
        loss.backward()
        found.append((loss.item(), [each.grad for each in model.parameters()]))

    (one, grads), (other, others) = found
    assert one == pytest.approx(other, abs=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(grads, others, strict=True))
