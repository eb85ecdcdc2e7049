"""How an answer is scored against the right one."""

import pytest

from agents.cli.tasks import METRICS as CONFIGURABLE
from agents.validator.metrics import METRICS, exact_match, token_f1


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [("orders", "orders", 1), (" Orders\n", "orders", 1), ("orders.", "orders", 0), ("", "orders", 0), ("ẞ", "ss", 1)],
)
def test_an_exact_match_forgives_white_space_and_case_alone(answer, right, score):
    assert exact_match(answer, right) == score


@pytest.mark.parametrize(
    ("answer", "right", "score"),
    [
        ("The refund takes five days.", "a refund takes five days", 1),
        ("five days", "five working days", 0.8),
        ("five five days", "five days days", 2 / 3),
        ("never", "five days", 0),
        ("", "five days", 0),
        ("The", "a", 1),
        ("„fünf“ Tage", "fünf Tage", 1),
    ],
)
def test_token_f1_counts_shared_words_as_squad_does(answer, right, score):
    assert token_f1(answer, right) == pytest.approx(score)
    assert token_f1(right, answer) == pytest.approx(score)


def test_what_a_task_may_name_is_what_can_be_scored():
    assert set(CONFIGURABLE) == set(METRICS)
    assert METRICS["accuracy"] is METRICS["exact_match"]
