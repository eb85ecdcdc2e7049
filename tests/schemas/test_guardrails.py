"""What guardrails see of an answer."""

from __future__ import annotations

import pytest

from schemas.features import Interaction
from schemas.guardrails import STEPS, asks_back, declines, guarded, step_of


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n",
        "I cannot help with that.",
        "I'm sorry, but I can't answer this.",
        "I’m sorry, I don’t know.",
        "Sorry, I do not have that information.",
        "Unfortunately, we are unable to say.",
        "As an AI language model, I cannot have opinions.",
        "I do not know: no document here answers this.",
        "I am not able to do that.",
        "I am afraid I don't understand the question.",
    ],
)
def test_refusals_are_known_by_how_they_begin(text: str):
    assert declines(text)


@pytest.mark.parametrize(
    "text",
    [
        "delivery",
        "Three working days.",
        "I'm sorry to hear that your parcel is late. It arrives tomorrow.",
        "I do not recommend it.",
        "You cannot return opened software.",
        "Icannot",
    ],
)
def test_other_answers_are_no_refusals(text: str):
    assert not declines(text)


@pytest.mark.parametrize(
    "text", ["Which order?", "Which order? ", "“Which order?”", "**Which one?**", "どれですか？", "ماذا؟"]
)
def test_an_answer_that_ends_in_a_question_asks_back(text: str):
    assert asks_back(text)


def test_a_question_within_an_answer_does_not():
    assert not asks_back("Which order? The first one.")
    assert not asks_back("")


def test_only_answers_count():
    row = Interaction(answer_id="a", answer="I cannot say. Can you?", latency_ms=1200.4)
    assert guarded(row) == {"declined": 1, "asked_back": 1, "latency_ms": 1200, "characters": 22}
    for other in (
        Interaction(answer_id="a"),
        Interaction(answer_id="a", failure="too late", latency_ms=5.0),
        Interaction(answer_id="a", answer="", finish_reason="retrieve_only"),
    ):
        assert guarded(other) == {}


@pytest.mark.parametrize("latency", [None, float("nan"), float("inf"), -1.0])
def test_a_latency_that_is_none_counts_as_zero(latency: float | None):
    assert guarded(Interaction(answer_id="a", answer="x", latency_ms=latency))["latency_ms"] == 0


def test_steps_are_four_a_doubling():
    assert step_of(0) == 0
    assert step_of(2000) - step_of(1000) == step_of(64) - step_of(32) == 4
    assert step_of(1e9) == len(STEPS)
