"""A cached loss belongs to its source, whatever lies in the file that keeps it."""

import math
from types import SimpleNamespace

import pytest
import torch

from infra.models.scoring import cached_loss, mean_divergence


def loss_of(file, source, loss):
    """The loss, and whether it was measured."""
    done = []

    def measure():
        done.append(True)
        return loss

    return cached_loss(file, source, measure), bool(done)


def test_a_loss_is_measured_once_for_each_source(tmp_path):
    file = tmp_path / "work" / "figure.json"
    assert loss_of(file, "a", 1.5) == (1.5, True)
    assert loss_of(file, "a", 9.0) == (1.5, False)
    assert loss_of(file, "b", 2.0) == (2.0, True)
    assert loss_of(file, "b", 9.0) == (2.0, False)
    assert loss_of(file, "a", 1.5) == (1.5, True)


def test_the_loss_of_a_damaged_file_is_measured_again(tmp_path):
    file = tmp_path / "figure.json"
    for content in ("", "{", "[]", '"a"', "{}", '{"source": "a"}', '{"source": "a", "figure": "x"}', "\xff"):
        file.write_text(content, encoding="latin-1")
        assert loss_of(file, "a", 1.5) == (1.5, True), content
        assert loss_of(file, "a", 9.0) == (1.5, False), content


def test_a_loss_that_cannot_be_kept_is_measured_each_time(tmp_path):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert loss_of(tmp_path / "file" / "figure.json", "a", 1.5) == (1.5, True)


def giving(*chances):
    """A model of two words that expects the first with the chance at each place, whatever it read."""

    def forward(input_ids, attention_mask):
        first = torch.tensor(chances)[: input_ids.shape[1]]
        logits = torch.stack([first.log(), (1 - first).log()], dim=-1)
        return SimpleNamespace(logits=logits.expand(len(input_ids), -1, -1))

    return forward


def divergence(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def measured(base, adapted, rows, **changes):
    return mean_divergence(base, adapted, rows, device=torch.device("cpu"), **changes)


def test_the_divergence_is_taken_from_the_prompts_last_token_on_and_in_the_direction_of_the_base_model():
    base, adapted = giving(0.1, 0.2, 0.5, 0.9), giving(0.9, 0.3, 0.25, 0.9)
    prompt_and_answer = ([1, 0, 1, 0], 2)
    expected = (divergence(0.2, 0.3) + divergence(0.5, 0.25) + 0) / 3
    assert measured(base, adapted, [prompt_and_answer]) == pytest.approx(expected, abs=1e-6)
    assert measured(base, adapted, [([1, 0], 2)]) == pytest.approx(divergence(0.2, 0.3), abs=1e-6)
    assert measured(base, base, [prompt_and_answer]) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("batch_tokens", [1, 8, 1000])
def test_the_divergence_is_a_mean_over_tokens_whatever_the_batches(batch_tokens):
    base, adapted = giving(0.1, 0.2, 0.5, 0.9), giving(0.9, 0.3, 0.25, 0.9)
    rows = [([1, 0, 1, 0], 2), ([1, 0], 2)]
    expected = (2 * divergence(0.2, 0.3) + divergence(0.5, 0.25)) / 4
    assert measured(base, adapted, rows, batch_tokens=batch_tokens) == pytest.approx(expected, abs=1e-6)
