"""A row depends on which facts were merged, not on their order."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from agents.recorder.features import Question, merge
from agents.recorder.voices import Rules
from schemas.envelope import Received
from schemas.event import Event
from schemas.features import Interaction, Stamp
from schemas.interactions import Rating
from tests.agents.recorder.facts import START, answer, failure, feedback

RULES = Rules(reviewers={"rita"})
FACTS = (
    answer("30 days.", at=1, event_id="a1"),
    answer("100 days.", at=1, event_id="a2"),  # the question was asked twice under one id, in the same microsecond
    feedback("up", at=2, event_id="b1"),
    feedback("down", reason="wrong", at=3, event_id="b2"),
    feedback(correction="60 days.", at=3, event_id="b3"),
    failure(at=0.5, event_id="f1"),
)


def merged(facts: Iterable[Received[Any]]) -> Interaction:
    question: Question | None = None
    for fact in facts:
        question = merge(question, fact, RULES)
    assert question is not None
    return question.row


def test_every_order_of_the_same_facts_gives_the_same_row():
    rows = [merged(order) for order in itertools.permutations(FACTS)]
    assert len(rows) == 720
    assert all(row == rows[0] for row in rows)
    assert rows[0].revision == 6


def test_every_order_of_every_subset_gives_the_same_row():
    for size in range(1, 6):
        for subset in itertools.combinations(FACTS, size):
            first, *others = (merged(order) for order in itertools.permutations(subset))
            assert all(row == first for row in others)


def random_fact(dice: random.Random, number: int) -> Received[Event]:
    at, event_id = float(dice.randrange(4)), f"{number}"
    if dice.random() < 0.3:
        return answer(dice.choice("xyz"), at=at, event_id=event_id)
    if dice.random() < 0.2:
        return failure(at=at, event_id=event_id)
    correction, reason = dice.choice([None, "c"]), dice.choice([None, "r"])
    ratings: tuple[Rating, ...] = ("up", "down")
    rating = dice.choice(ratings) if not (correction or reason) else None
    return feedback(rating, correction=correction, reason=reason, at=at, event_id=event_id)


@pytest.mark.parametrize("seed", range(20))
def test_any_shuffle_of_many_facts_gives_the_same_row(seed):
    dice = random.Random(seed)
    facts = [random_fact(dice, number) for number in range(12)]
    expected = merged(facts)
    for _ in range(50):
        dice.shuffle(facts)
        assert merged(facts) == expected


def test_an_answer_fills_its_part_of_the_row():
    row = merged([answer()])
    assert row == Interaction(
        answer_id="q-1",
        revision=1,
        outcome="unrated",
        task="support",
        tenant="default",
        user="user-8",
        question="How long may I return shoes?",
        answer="30 days.",
        sources=(
            {
                "document_id": "17",
                "chunk_id": "17:0",
                "score": 0.5,
                "text": "30 days",
                "title": None,
                "uri": None,
                "heading": None,
            },
        ),
        base_model="smollm2",
        engine="transformers",
        adapter_id="lora-1",
        release_sequence=0,
        arm="challenger",
        prompt_tokens=20,
        completion_tokens=4,
        latency_ms=120.0,
        finish_reason="stop",
        declined=False,
        answered_at=START + timedelta(seconds=1),
        answer_stamp=Stamp(time=START + timedelta(seconds=1), event="/test a"),
        first_event_at=START + timedelta(seconds=1),
        last_event_at=START + timedelta(seconds=1),
    )


def test_feedback_before_the_answer_gives_the_same_row():
    assert merged([feedback("up"), answer()]) == merged([answer(), feedback("up")])


def test_feedback_alone_waits_for_its_answer():
    row = merged([feedback("up", reason="clear")])
    assert (row.outcome, row.task, row.answered_at, row.rating, row.reason) == ("pending", None, None, "up", "clear")


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ([answer()], "unrated"),
        ([answer(), feedback(reason="hm")], "unrated"),
        ([answer(), feedback("up")], "approved"),
        ([answer(), feedback("down")], "disapproved"),
        ([answer(), feedback("up", at=2), feedback("down", at=3, event_id="c")], "disapproved"),
        ([answer(), feedback(correction="60 days.")], "corrected"),
        ([answer(), feedback("down", correction="60 days.")], "corrected"),
        ([answer(), feedback(correction="60 days.", at=2), feedback("up", at=3, event_id="c")], "corrected"),
        ([failure()], "failed"),
        ([failure(), feedback("down")], "failed"),
        ([failure(at=1), answer(at=2)], "unrated"),
        ([answer(at=1), failure(at=2)], "failed"),
        ([feedback("up")], "pending"),
    ],
)
def test_the_outcome_follows_from_the_facts(facts, outcome):
    assert merged(facts).outcome == outcome
    assert merged(reversed(facts)).outcome == outcome


def test_later_feedback_wins_field_by_field():
    row = merged(
        [
            feedback("up", reason="first", at=2, event_id="b1"),
            feedback(correction="60 days.", at=3, event_id="b2"),
            feedback("down", at=4, event_id="b3"),
        ]
    )
    assert (row.rating, row.reason, row.correction) == ("down", "first", "60 days.")
    assert [stamp and stamp.event for stamp in (row.rating_stamp, row.reason_stamp, row.correction_stamp)] == [
        "/test b3",
        "/test b1",
        "/test b2",
    ]


def test_nothing_of_a_replaced_answer_remains():
    row = merged([answer(at=1), failure(at=2)])
    assert (row.answer, row.sources, row.engine, row.prompt_tokens, row.finish_reason) == (None, (), None, None, None)
    assert row.failure == "the deadline had passed"
    assert merged([failure(at=1), answer(at=2)]).failure is None


def test_the_row_spans_the_time_of_its_facts():
    row = merged([feedback("up", at=9), answer(at=1), feedback("down", at=5, event_id="c")])
    assert (row.first_event_at, row.last_event_at) == (START + timedelta(seconds=1), START + timedelta(seconds=9))


def test_a_fact_of_another_answer_is_not_merged():
    with pytest.raises(ValueError, match="does not belong"):
        merged([answer(), feedback("up", answer_id="q-2")])
