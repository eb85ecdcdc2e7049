"""What an adapter learns from: what people said is right, once each, never what is held out, and a fair replay."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agents.trainer.dataset import reason_to_decline, select, split_of
from schemas.datasets import input_key
from schemas.features import Example, Interaction, Stamp
from schemas.interactions import InteractionOutcome
from schemas.policies import TrainerPolicy
from schemas.questions import Turn
from schemas.tasks import Task

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TASK = Task(name="routing", instruction="Which team?", metric="exact_match", labels=("returns", "delivery", "skates"))
POLICY = TrainerPolicy(replay_share=0.25, holdout_share=0.2, minimum_rows=4)


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def corrected(number: int, correction: str, *, minutes: float = 0.0, question: str | None = None) -> Interaction:
    return Interaction(
        answer_id=f"a{number}",
        outcome="corrected",
        task="routing",
        question=question or f"message {number}",
        answer="returns",
        correction=correction,
        correction_stamp=Stamp(time=at(minutes), event=f"f{number}"),
        sources=({"text": "a page"},),
    )


def approved(number: int, answer: str = "returns", *, minutes: float = 0.0) -> Interaction:
    return Interaction(
        answer_id=f"a{number}",
        outcome="approved",
        task="routing",
        question=f"message {number}",
        answer=answer,
        rating="up",
        rating_stamp=Stamp(time=at(minutes), event=f"f{number}"),
    )


def example(number: int, output: str, *, minutes: float = 0.0) -> Example:
    return Example(
        example_id=f"e{number}",
        task="routing",
        input=f"example {number}",
        output=output,
        origin=None,
        submitted_at=at(minutes),
    )


def test_corrections_teach_the_correction_and_approved_answers_themselves():
    chosen = select(TASK, [corrected(1, "skates"), approved(2)], [example(3, "delivery")], POLICY)

    assert {(row.input, row.output, row.origin, row.origin_id) for row in chosen.rows} == {
        ("message 1", "skates", "correction", "a1"),
        ("message 2", "returns", "approved", "a2"),
        ("example 3", "delivery", "example", "e3"),
    }


def test_a_declined_answer_teaches_only_what_somebody_corrected_it_to():
    rows = [replace(approved(1), declined=True), replace(corrected(2, "skates"), declined=True)]
    assert [row.input for row in select(TASK, rows, [], POLICY).rows] == ["message 2"]


@pytest.mark.parametrize("outcome", ["pending", "unrated", "disapproved", "failed"])
def test_an_answer_that_nobody_called_right_teaches_nothing(outcome: InteractionOutcome):
    row = replace(approved(1), outcome=outcome, rating=None, rating_stamp=None)

    assert select(TASK, [row], [], POLICY).rows == ()


def test_the_same_rows_give_the_same_dataset_in_any_order():
    rows = [corrected(number, "skates", minutes=number) for number in range(30)]

    assert select(TASK, rows, [], POLICY) == select(TASK, rows[::-1], [], POLICY)


def test_of_two_facts_about_one_input_the_newest_wins_and_contradictions_are_counted():
    rows = [
        corrected(1, "delivery", minutes=1, question="Where  IS it?"),
        corrected(2, "skates", minutes=2, question="where is it?"),
        corrected(3, "skates", minutes=3, question="Where is it? "),
    ]

    chosen = select(TASK, rows, [], POLICY)

    assert [(row.output, row.origin_id) for row in chosen.rows] == [("skates", "a3")]
    assert chosen.left_out == {"contradicted": 1, "repeated": 1}


def test_of_two_facts_at_one_moment_the_same_wins_in_any_order():
    rows = [corrected(1, "delivery", question="x"), corrected(2, "skates", question="x")]

    assert select(TASK, rows, [], POLICY) == select(TASK, rows[::-1], [], POLICY)


def test_rows_that_are_too_long_for_the_model_are_left_out_and_counted():
    chosen = select(TASK, [corrected(1, "skates"), corrected(2, "skates", question="on and on " * 99)], [], POLICY)

    short = chosen.only(lambda row: len(row.input) < 100)

    assert [row.origin_id for row in short.rows] == ["a1"]
    assert short.left_out == {"too long": 1}
    assert chosen.only(lambda row: True) == chosen


def test_answers_outside_the_tasks_labels_are_left_out_and_case_does_not_matter():
    chosen = select(TASK, [corrected(1, "SKATES "), corrected(2, "the skating team")], [], POLICY)

    assert [row.output for row in chosen.rows] == ["skates"]
    assert chosen.left_out == {"with an answer that is none of the task's labels": 1}


def test_any_answer_goes_where_a_task_has_no_labels():
    free = TASK.model_copy(update={"labels": (), "retrieval": True})

    (row,) = select(free, [corrected(1, "Ten days.")], [], POLICY).rows

    assert (row.output, row.sources) == ("Ten days.", ({"text": "a page"},))


def test_a_held_out_input_is_held_out_whoever_says_what_of_it_and_whenever():
    first = select(TASK, [corrected(number, "skates") for number in range(100)], [], POLICY)
    later = select(TASK, [corrected(number, "delivery", minutes=9) for number in range(100)], [], POLICY)

    held_out = {row.input for row in first.holdout}
    assert held_out == {row.input for row in later.holdout}
    assert 10 <= len(held_out) <= 30
    assert not held_out & {row.input for row in first.train}
    assert split_of("routing", "Message  7", 0.2) == split_of("routing", "message 7", 0.2)


def test_older_rows_are_replayed_to_their_share_each_label_in_its_turn():
    old = [example(number, "returns") for number in range(60)] + [
        example(number, "delivery") for number in range(60, 66)
    ]
    new = [corrected(number, "skates", minutes=10) for number in range(40)]

    chosen = select(TASK, new, old, POLICY, learned_until=at(5))

    replayed = [row for row in chosen.train if not row.fresh]
    trained = len(chosen.train)
    assert trained * 0.25 <= len(replayed) <= trained * 0.25 + 1
    counts = Counter(row.output for row in replayed)
    assert counts["delivery"] >= min(4, len(replayed) // 2)
    assert all(row.fresh for row in chosen.holdout)


def test_without_an_earlier_adapter_everything_is_fresh():
    chosen = select(TASK, [approved(1)], [example(2, "delivery", minutes=-1000)], POLICY)

    assert all(row.fresh for row in chosen.rows)


def test_the_window_spans_the_facts():
    chosen = select(TASK, [corrected(1, "skates", minutes=3), approved(2, minutes=1)], [], POLICY)

    assert chosen.window == (at(1), at(3))


def many(count: int, label: str = "skates") -> list[Interaction]:
    return [corrected(number, label) for number in range(count)]


def test_enough_different_rows_have_no_fault():
    assert (
        reason_to_decline(select(TASK, [*many(20), *[approved(n) for n in range(20, 30)]], [], POLICY), TASK, POLICY)
        is None
    )


@pytest.mark.parametrize(
    ("rows", "learned", "words"),
    [
        ([], None, "0 rows to train on, and 4 are needed"),
        ([corrected(1, "skates")], None, "publish examples"),
        (many(9, "nonsense"), None, "9 with an answer that is none of the task's labels"),
        (many(30), None, "23 of 23 rows say 'skates'"),
        ([*many(200), *[approved(n) for n in range(200, 204)]], None, "154 of 157 rows say 'skates'"),
        (
            [*many(20), *[approved(n) for n in range(20, 30)]],
            at(1),
            "nothing new to learn since 2026-05-01 00:01 UTC",
        ),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_says_why_in_one_line(rows, learned, words):
    reason = reason_to_decline(select(TASK, rows, [], POLICY, learned_until=learned), TASK, POLICY)

    assert reason is not None
    assert "\n" not in reason
    assert words in reason


def test_rows_none_of_which_is_held_out_cannot_be_judged():
    policy = POLICY.model_copy(update={"holdout_share": 1e-9})

    reason = reason_to_decline(
        select(TASK, [*many(20), *[approved(n) for n in range(20, 30)]], [], policy), TASK, policy
    )

    assert reason is not None
    assert "none of 30 rows is held out" in reason


def test_white_space_and_case_make_no_other_input():
    assert input_key(" Where\n IS it? ") == input_key("where is it?")


def test_a_follow_up_teaches_its_answer_after_what_was_said_before():
    passport = (Turn(role="user", text="How do I renew a passport?"), Turn(role="assistant", text="At the town hall."))
    ticket = (Turn(role="user", text="Where do I buy a ticket?"), Turn(role="assistant", text="In the bus."))
    rows = [
        replace(corrected(1, "returns", question="And for my wife?"), history=passport),
        replace(corrected(2, "skates", question="And for my wife?"), history=ticket),
        corrected(3, "delivery", question="And for my wife?"),
    ]

    chosen = select(TASK, rows, [], POLICY)

    assert {(row.history, row.output) for row in chosen.rows} == {
        (passport, "returns"), (ticket, "skates"), ((), "delivery"),
    }  # fmt: skip
    assert len({row.row_id for row in chosen.rows}) == 3
    assert chosen.left_out == {}


def test_the_same_follow_up_in_another_case_is_the_same_input():
    turns = (Turn(role="user", text="How do I renew a passport?"),)
    loud = (Turn(role="user", text=" HOW do I\nrenew a passport?"),)
    rows = [
        replace(corrected(1, "returns", question="And my wife?"), history=turns),
        replace(corrected(2, "skates", question="AND my wife?", minutes=1), history=loud),
    ]

    chosen = select(TASK, rows, [], POLICY)

    assert [(row.origin_id, row.output) for row in chosen.rows] == [("a2", "skates")]
    assert chosen.left_out == {"contradicted": 1}


def test_a_turn_is_told_from_a_question_and_from_who_said_it():
    said = (Turn(role="user", text="a"),)
    keys = {input_key("b", said), input_key("b", (Turn(role="assistant", text="a"),)), input_key("a b"), input_key("b")}
    assert len(keys) == 4
