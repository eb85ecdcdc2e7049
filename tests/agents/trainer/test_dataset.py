"""What an adapter learns from: what people said is right, once each, never what is held out, and a fair replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.trainer.candidates import in_turn
from agents.trainer.dataset import Pool, Selection, reason_to_decline, select, too_few_golden
from schemas.datasets import input_key
from schemas.features import Example, Interaction, Stamp, Trust
from schemas.interactions import InteractionOutcome
from schemas.policies import TrainerPolicy
from schemas.questions import Turn
from schemas.tasks import Task

NOW = datetime(2026, 5, 1, tzinfo=UTC)
TASK = Task(name="routing", instruction="Which team?", metric="exact_match", labels=("returns", "delivery", "skates"))
POLICY = TrainerPolicy(replay_share=0.25, holdout_share=0.2, minimum_rows=4)


def chosen_of(
    interactions: Sequence[Interaction],
    examples: Sequence[Example] = (),
    policy: TrainerPolicy = POLICY,
    task: Task = TASK,
    **pool: Any,
) -> Selection:
    return select(task, Pool(interactions=interactions, examples=examples, **pool), policy, secret="s")


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


def by(user: str, row: Interaction, trust: Trust = "owner") -> Interaction:
    """The row with this user's feedback."""
    return replace(row, corrected_by=user, correction_trust=trust, rated_by=user, rating_trust=trust)


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
    chosen = chosen_of([corrected(1, "skates"), approved(2)], [example(3, "delivery")])

    assert {(row.input, row.output, row.origin, row.origin_id) for row in chosen.rows} == {
        ("message 1", "skates", "correction", "a1"),
        ("message 2", "returns", "approved", "a2"),
        ("example 3", "delivery", "example", "e3"),
    }


def test_a_declined_answer_teaches_only_what_somebody_corrected_it_to():
    rows = [replace(approved(1), declined=True), replace(corrected(2, "skates"), declined=True)]
    assert [row.input for row in chosen_of(rows).rows] == ["message 2"]


@pytest.mark.parametrize("outcome", ["pending", "unrated", "disapproved", "failed"])
def test_an_answer_that_nobody_called_right_teaches_nothing(outcome: InteractionOutcome):
    row = replace(approved(1), outcome=outcome, rating=None, rating_stamp=None)

    assert chosen_of([row]).rows == ()


def test_the_same_rows_give_the_same_dataset_in_any_order():
    rows = [corrected(number, "skates", minutes=number) for number in range(30)]

    assert chosen_of(rows) == chosen_of(rows[::-1])


def test_a_raters_newest_word_on_an_input_counts_and_what_it_replaces_is_kept_apart():
    rows = [
        corrected(1, "delivery", minutes=1, question="Where  IS it?"),
        corrected(2, "skates", minutes=2, question="where is it?"),
        corrected(3, "skates", minutes=3, question="Where is it? "),
    ]

    chosen = chosen_of(rows)

    assert [(row.output, row.origin_id) for row in chosen.rows] == [("skates", "a3")]
    assert chosen.left_out == {"contradicted": 1, "duplicate": 1}


def test_of_two_facts_at_one_moment_the_same_wins_in_any_order():
    rows = [corrected(1, "delivery", question="x"), corrected(2, "skates", question="x")]

    assert chosen_of(rows) == chosen_of(rows[::-1])


def test_rows_that_are_too_long_for_the_model_are_left_out_and_counted():
    chosen = chosen_of([corrected(1, "skates"), corrected(2, "skates", question="on and on " * 99)])

    short = chosen.only(lambda row: len(row.input) < 100)

    assert [row.origin_id for row in short.rows] == ["a1"]
    assert short.left_out == {"too_long": 1}
    assert chosen.only(lambda row: True) == chosen


def test_answers_outside_the_tasks_labels_are_left_out_and_case_does_not_matter():
    chosen = chosen_of([corrected(1, "SKATES "), corrected(2, "the skating team")])

    assert [row.output for row in chosen.rows] == ["skates"]
    assert chosen.left_out == {"label": 1}


def test_any_answer_goes_where_a_task_has_no_labels():
    free = TASK.model_copy(update={"labels": (), "retrieval": True})

    (row,) = chosen_of([corrected(1, "Ten days.")], task=free).rows

    assert (row.output, row.sources) == ("Ten days.", ({"text": "a page"},))


def test_a_held_out_input_is_held_out_whoever_says_what_of_it_and_whenever():
    first = chosen_of([corrected(number, "skates") for number in range(100)])
    later = chosen_of([corrected(number, "delivery", minutes=9) for number in range(100)], held_out=first.rows)

    held_out = {row.input for row in first.holdout}
    assert held_out == {row.input for row in later.holdout}
    assert len(held_out) == 20
    assert not held_out & {row.input for row in first.train}


def test_nobody_who_does_not_know_the_homes_secret_can_foresee_who_is_held_out():
    pool = Pool(interactions=[corrected(number, "skates") for number in range(100)])
    one, other = (select(TASK, pool, POLICY, secret=secret) for secret in ("s", "t"))

    assert {row.input for row in one.holdout} != {row.input for row in other.holdout}


def test_with_many_users_a_user_either_teaches_or_judges():
    rows = [by(f"u{number % 30}", corrected(number, TASK.labels[number % 3])) for number in range(300)]

    chosen = chosen_of(rows)

    teaching, judging = ({row.user for row in some} for some in (chosen.train, chosen.holdout))
    assert judging
    assert not teaching & judging
    assert len(teaching | judging) == 30


def learned(chosen: Selection) -> dict[str, Any]:
    return {"learned": chosen.rows, "learned_at": at(5)}


def test_the_champions_rows_stay_and_what_arrived_since_is_fresh_whenever_it_was_said():
    champion = chosen_of([], [example(number, TASK.labels[number % 3]) for number in range(60)])
    late = [corrected(number, "skates", minutes=-1000) for number in range(10)]

    chosen = chosen_of(late, **learned(champion))

    assert {row.row_id for row in chosen.train if not row.fresh} == {row.row_id for row in champion.train}
    assert {row.origin_id for row in chosen.rows if row.fresh} == {f"a{number}" for number in range(10)}
    assert not [row for row in chosen.holdout if not row.fresh]


def test_a_row_that_the_champion_knows_is_not_fresh_when_it_is_read_again():
    old = [example(number, TASK.labels[number % 3]) for number in range(60)]
    champion = chosen_of([], old)

    assert not [row for row in chosen_of([], old, **learned(champion)).rows if row.fresh]


def test_where_the_window_is_full_the_champions_rows_have_their_share_label_by_label():
    policy = POLICY.model_copy(update={"window_rows": 40})
    old = [example(number, "returns") for number in range(30)] + [
        example(number, "delivery") for number in range(30, 36)
    ]
    champion = chosen_of([], old)

    chosen = chosen_of([corrected(number, "skates") for number in range(60)], policy=policy, **learned(champion))

    replayed = Counter(row.output for row in chosen.train if not row.fresh)
    assert len(chosen.train) == 40
    assert replayed.total() == 10
    assert replayed["delivery"] >= 4


def test_a_row_whose_feedback_was_taken_back_or_changed_since_teaches_no_more():
    answers = {f"a{number}": corrected(number, "skates") for number in range(40)}
    champion = chosen_of(list(answers.values()))
    row, other = champion.train[:2]
    answers[row.origin_id] = replace(answers[row.origin_id], correction=None, correction_stamp=None, outcome="unrated")
    answers[other.origin_id] = replace(answers[other.origin_id], correction="returns")

    chosen = chosen_of([], answers=answers, **learned(champion))

    assert {each.row.row_id for each in chosen.quarantined} == {row.row_id, other.row_id}
    assert chosen.left_out == {"retracted": 2}


def test_labels_that_the_task_has_no_more_leave_the_champions_rows():
    champion = chosen_of([corrected(number, TASK.labels[number % 3]) for number in range(30)])
    task = TASK.model_copy(update={"labels": ("returns", "delivery")})

    chosen = chosen_of([], task=task, **learned(champion))

    assert {row.output for row in chosen.rows} == {"returns", "delivery"}
    assert chosen.left_out["label"] > 0


def test_sources_of_withdrawn_documents_are_in_no_prompt_and_an_answer_from_them_alone_teaches_nothing():
    free = TASK.model_copy(update={"labels": (), "retrieval": True})
    both = ({"document_id": "d1", "text": "gone"}, {"document_id": "d2", "text": "here"})
    rows = [
        replace(corrected(1, "Ten days."), sources=both, tenant="shop"),
        replace(corrected(2, "Two days."), sources=both[:1], tenant="shop"),
        replace(corrected(3, "No days."), sources=both[:1], tenant="other"),
    ]
    pool = Pool(interactions=rows)
    assert pool.documents(free) == [("other", "d1"), ("shop", "d1"), ("shop", "d2")]

    chosen = select(free, pool, POLICY, secret="s", withdrawn=frozenset({("shop", "d1")}))

    assert {row.origin_id: row.sources for row in chosen.rows} == {"a1": both[1:], "a3": both[:1]}
    assert chosen.left_out == {"withdrawn": 1}


def test_a_row_says_why_it_is_in_whose_it_is_and_how_far_it_is_trusted():
    said = replace(by("ann", corrected(1, "skates")), tenant="shop")
    (row,) = chosen_of([said]).rows
    assert (row.user, row.tenant, row.trust, row.why) == ("ann", "shop", "owner", "corrected by ann (owner)")

    unnamed = replace(said, user="ann", corrected_by=None)
    (row,) = chosen_of([replace(unnamed, correction_trust="anonymous")]).rows
    assert (row.user, row.why) == ("ann", "corrected by ann (anonymous)"), "who asked, as it seems"
    (row,) = chosen_of([replace(unnamed, correction_trust="reviewer")]).rows
    assert (row.user, row.trust, row.why) == (None, "reviewer", "corrected by somebody without a name (reviewer)")

    (row,) = chosen_of([], [replace(example(1, "skates"), origin="old tickets")]).rows
    assert (row.user, row.trust, row.why) == (None, None, "example from old tickets")


def test_raters_take_turns_where_more_is_said_than_can_be_chosen():
    flood = [by("mal", corrected(number, "skates")) for number in range(20)]
    quiet = [by(f"u{number}", approved(100 + number)) for number in range(6)]

    assert in_turn([*flood, *quiet], 10) == [*flood[:4], *quiet]
    assert in_turn([*quiet, *flood], 10) == [*quiet, *flood[:4]]
    assert in_turn(flood, 10) == flood[:10]
    assert in_turn(quiet, 10) == quiet


def golden(count: int) -> list[Example]:
    words = ("where", "when", "how", "why", "who", "what")
    return [
        Example(
            example_id=f"g{number}", task="routing", input=f"{words[number % 6]} {number * 7919} {words[number // 6]}",
            output="returns", origin=None, submitted_at=NOW, golden=True,
        )
        for number in range(count)
    ]  # fmt: skip


def test_a_golden_example_judges_and_neither_it_nor_its_like_is_trained_on():
    gold = golden(24)
    rows = [
        corrected(1, "skates", question=gold[0].input.upper()),
        corrected(2, "returns", question=f"{gold[1].input}!"),
    ]

    chosen = chosen_of([*rows, corrected(3, "skates")], golden=gold)

    assert [row.split for row in chosen.rows].count("golden") == 24
    assert {row.input for row in chosen.rows if row.split != "golden"} == {"message 3"}
    assert chosen.left_out == {"leaked": 2}


def test_a_golden_set_of_one_row_is_not_used_and_says_so_in_one_line():
    chosen = chosen_of([corrected(3, "skates")], golden=golden(1))

    assert {row.split for row in chosen.rows} <= {"train", "holdout"}
    line = too_few_golden(chosen.golden, POLICY)
    assert line.startswith("the golden set has 1 row, and 20 are needed")
    assert "\n" not in line


def test_without_an_earlier_adapter_everything_is_fresh():
    chosen = chosen_of([approved(1)], [example(2, "delivery", minutes=-1000)])

    assert all(row.fresh for row in chosen.rows)


def test_the_window_spans_the_facts():
    chosen = chosen_of([corrected(1, "skates", minutes=3), approved(2, minutes=1)])

    assert chosen.window == (at(1), at(3))


def many(count: int, label: str = "skates") -> list[Interaction]:
    return [corrected(number, label) for number in range(count)]


def test_enough_different_rows_have_no_fault():
    assert reason_to_decline(chosen_of([*many(20), *[approved(n) for n in range(20, 30)]]), TASK, POLICY) is None


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "0 rows to train on, and 4 are needed"),
        ([corrected(1, "skates")], "publish examples"),
        (many(9, "nonsense"), "9 with an answer that is none of the task's labels"),
        (many(30), "rows say 'skates'"),
    ],
)
def test_a_dataset_that_cannot_be_trained_on_says_why_in_one_line(rows, words):
    reason = reason_to_decline(chosen_of(rows), TASK, POLICY)

    assert reason is not None
    assert "\n" not in reason
    assert words in reason


def test_a_training_without_anything_new_is_declined():
    champion = chosen_of([*many(20), *[approved(n) for n in range(20, 30)]])

    reason = reason_to_decline(chosen_of([], **learned(champion)), TASK, POLICY)

    assert reason is not None
    assert "nothing new to learn since 2026-05-01 00:05 UTC" in reason


def test_rows_none_of_which_is_held_out_cannot_be_judged():
    chosen = chosen_of([*many(20), *[approved(n) for n in range(20, 30)]])

    reason = reason_to_decline(chosen.only(lambda row: row.split == "train"), TASK, POLICY)

    assert reason is not None
    assert "none of 24 rows is held out" in reason


def test_a_dataset_that_a_share_makes_too_small_says_how_many_users_are_missing():
    policy = POLICY.model_copy(update={"minimum_rows": 40})
    rows = [by("ann", corrected(number, TASK.labels[number % 3])) for number in range(60)]
    rows += [by(f"u{number % 3}", corrected(number, TASK.labels[number % 3])) for number in range(60, 72)]

    reason = reason_to_decline(chosen_of(rows, policy=policy), TASK, policy)

    assert reason is not None
    assert "48 above a user's share" in reason
    assert "more users must correct answers, because one of 4 may give at most 50%" in reason


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

    chosen = chosen_of(rows)

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

    chosen = chosen_of(rows)

    assert [(row.origin_id, row.output) for row in chosen.rows] == [("a2", "skates")]
    assert chosen.left_out == {"contradicted": 1}


def test_a_turn_is_told_from_a_question_and_from_who_said_it():
    said = (Turn(role="user", text="a"),)
    keys = {input_key("b", said), input_key("b", (Turn(role="assistant", text="a"),)), input_key("a b"), input_key("b")}
    assert len(keys) == 4
