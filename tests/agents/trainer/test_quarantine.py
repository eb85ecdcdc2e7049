"""Which rows nobody learns from: bursts, contradictions, repetitions, and what is above somebody's share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from agents.trainer.candidates import Candidate
from agents.trainer.caps import capped, limit, share_of
from agents.trainer.checks import faults
from agents.trainer.quarantine import bursts, counted, near_duplicates, one_for_each_input
from schemas.datasets import DatasetRow, RowOrigin, Split
from schemas.policies import TrainerPolicy

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def said(
    number: int,
    output: str = "returns",
    *,
    user: str | None = "ann",
    trust: str | None = "owner",
    text: str | None = None,
    seconds: float = 0.0,
    kept: bool = False,
    origin: RowOrigin = "correction",
    tenant: str = "shop",
    split: Split = "train",
) -> Candidate:
    row = DatasetRow(
        row_id=f"r{number}", input=text or f"message {number * 7919}", output=output, origin=origin,
        origin_id=f"a{number}", at=NOW + timedelta(seconds=seconds), split=split, user=user, trust=trust, tenant=tenant,
    )  # fmt: skip
    return Candidate(row=row, kept=kept)


def example(number: int, output: str = "returns", **changes: object) -> Candidate:
    return said(number, output, origin="example", user=None, trust=None, **changes)  # type: ignore[arg-type]  # as above


def ids(candidates: Sequence[Candidate]) -> set[str]:
    return {each.row.origin_id for each in candidates}


def test_more_than_a_person_can_give_within_minutes_is_not_learned_from_and_the_rest_of_the_rater_is():
    fast = [said(number, seconds=number) for number in range(30)]
    slow = [said(100 + number, seconds=1000 + 100 * number) for number in range(30)]
    others = [said(200 + number, user=f"u{number}", seconds=number) for number in range(30)]

    remaining, out = bursts([*fast, *slow, *others], 20, 60)

    assert {each.row.origin_id for each in out} == ids(fast)
    assert ids(remaining) == ids([*slow, *others])


@pytest.mark.parametrize("who", [{"user": None, "trust": "anonymous"}, {"trust": "reviewer"}, {"kept": True}])
def test_nobody_in_particular_reviewers_and_the_champions_rows_are_no_burst(who: dict[str, object]):
    rows = [said(number, **who) for number in range(30)]  # type: ignore[arg-type]  # as above
    assert bursts(rows, 20, 60) == (rows, [])


Voice = tuple[str, str, str]
"""A rater, how far he is trusted, and the output."""


@pytest.mark.parametrize(
    ("voices", "right"),
    [
        ([("ann", "owner", "a"), ("bob", "owner", "a"), ("eve", "owner", "b")], "a"),
        ([("ann", "owner", "a"), ("bob", "owner", "b")], None),
        ([("ann", "owner", "a"), ("bob", "owner", "a"), ("eve", "owner", "b"), ("mal", "owner", "b")], None),
        ([("ann", "owner", "a"), ("ann", "owner", "b"), ("bob", "owner", "b")], "b"),
        ([("ann", "reviewer", "a"), *((f"u{number}", "owner", "b") for number in range(9))], "a"),
        ([("ann", "owner", "a"), *((f"u{number}", "other", "b") for number in range(9))], "a"),
        ([("ann", "reviewer", "a"), ("bob", "reviewer", "b")], "b"),
        ([("ann", "reviewer", "a"), ("ann", "owner", "b")], "a"),
        ([(None, "reviewer", "a"), (None, "anonymous", "b")], "a"),
        ([*(("mal", "owner", "b") for _ in range(9)), ("ann", "owner", "a"), ("bob", "owner", "a")], "a"),
    ],
    ids=[
        "majority",
        "tie",
        "two to two",
        "changed mind",
        "reviewer",
        "owner",
        "later reviewer",
        "a namesake",
        "no names",
        "one voice",
    ],
)
def test_of_several_words_on_one_input_the_trusted_count_and_then_most_people(voices: list[Voice], right: str | None):
    rows = [
        said(number, output, user=user, trust=trust, text="where is it?", seconds=number)
        for number, (user, trust, output) in enumerate(voices)
    ]

    for order in (rows, rows[::-1]):
        remaining, out = one_for_each_input(order, by_label=True)
        assert [each.row.output for each in remaining] == ([right] if right else [])
        assert len(out) == len(rows) - len(remaining)


def test_what_was_validated_stays_until_more_people_say_something_else():
    kept = said(1, "a", user="old", text="x", kept=True, seconds=-9)
    one, another = (said(number, "b", user=f"u{number}", text="x", seconds=number) for number in (2, 3))

    assert one_for_each_input([kept, one], by_label=True)[0] == [kept]
    assert [each.row.output for each in one_for_each_input([kept, one, another], by_label=True)[0]] == ["b"]
    again = said(4, "a", user="u4", text="X", seconds=9)
    assert one_for_each_input([kept, again], by_label=True)[0] == [kept]


def test_free_texts_that_say_the_same_in_other_words_agree():
    texts = ("A refund takes three working days.", "a refund takes three working days", "It never comes back.")
    rows = [said(number, text, user=f"u{number}", text="x") for number, text in enumerate(texts)]

    remaining, out = one_for_each_input(rows, by_label=False)

    assert remaining[0].row.output in texts[:2]
    assert counted(out) == {"contradicted": 1, "duplicate": 1}


def test_a_near_duplicate_is_left_out_only_if_it_says_the_same_and_never_for_a_later_one():
    text = "how long does the parcel to Iceland usually take"
    first, second = said(1, text=text), said(2, text=f"{text}??", seconds=1)
    other = said(3, "delivery", text=f"and {text}", seconds=2)

    for order in ([first, second, other], [other, second, first]):
        remaining, out = near_duplicates(order, [])
        assert ids(remaining) == {"a1", "a3"}
        assert counted(out) == {"near_duplicate": 1}


def test_what_is_nearly_a_row_that_adapters_are_judged_on_is_not_trained_on():
    text = "how long does the parcel to Iceland usually take"
    judged = said(1, text=text, split="holdout").row
    golden = said(2, text="what do I wear for ten hours of skating", split="golden").row
    same, near = said(3, text=text.upper()), said(4, text=f"{text}??")
    gold = said(5, "delivery", text="What do I wear for ten hours of skating", kept=True)

    remaining, out = near_duplicates([same, near, gold, said(6)], [judged, golden])

    assert ids(remaining) == {"a3", "a6"}
    assert {each.row.origin_id: each.reason for each in out} == {"a4": "leaked", "a5": "leaked"}


@pytest.mark.parametrize(("users", "share"), [(1, 1.0), (2, 1.0), (4, 0.5), (10, 0.2), (40, 0.05), (1000, 0.05)])
def test_a_share_is_twice_an_equal_part_where_there_are_few_users(users: int, share: float):
    assert share_of(0.05, users) == pytest.approx(share)


def test_the_limit_is_the_share_of_what_remains():
    counts = {f"u{number}": 10 for number in range(60)} | {"mallory": 300}
    most = limit(counts, 0.05)
    assert most <= 0.05 * (600 + most) < most + 1
    assert limit({f"u{number}": 1 for number in range(100)}, 0.001) == 1
    assert limit({}, 0.05) == 1


def cut(rows: Sequence[Candidate], **policy: float) -> tuple[Counter[str | None], dict[str, int]]:
    remaining, out = capped(rows, TrainerPolicy(**policy))
    return Counter(each.row.user for each in remaining), counted(out)


def many(user: str | None, count: int, first: int, trust: str | None = "owner", **changes: object) -> list[Candidate]:
    return [said(first + number, user=user, trust=trust, **changes) for number in range(count)]  # type: ignore[arg-type]  # as above


def test_one_user_of_many_has_the_policys_share_and_the_others_lose_nothing():
    rows = [*many("mallory", 300, 0), *(each for user in range(60) for each in many(f"u{user}", 10, 1000 + 100 * user))]

    users, out = cut(rows)

    assert out == {"user_share": 300 - users["mallory"]}
    assert users["mallory"] <= 0.05 * users.total()
    assert min(users.values()) == 10


def test_a_handful_of_users_keeps_what_it_says_while_nobody_says_most_of_it():
    rows = [each for user in range(5) for each in many(f"u{user}", 10, 100 * user)]
    assert cut(rows)[1] == {}
    assert cut([*rows, *many("mallory", 300, 1000)])[0]["mallory"] <= 25


def test_examples_and_reviewers_have_no_share_and_the_champions_rows_stay():
    rows = [
        *many("rev", 500, 0, "reviewer"), *(example(1000 + number) for number in range(500)),
        *many("old", 400, 2000, kept=True), *many("old", 9, 3000),
        *(each for user in range(50) for each in many(f"u{user}", 2, 4000 + 10 * user)),
    ]  # fmt: skip

    users, out = cut(rows)

    assert (users["rev"], users["old"], users[None]) == (500, 400, 500)
    assert out == {"user_share": 9}


def test_those_who_give_no_name_have_a_share_of_their_own_unless_nobody_gives_one():
    nameless = [
        *many(None, 50, 0, "anonymous"),
        *(each for s in range(50) for each in many(f"session:{s}", 1, 100 + s)),
    ]
    named = [each for user in range(50) for each in many(f"u{user}", 2, 1000 + 10 * user)]

    users, out = cut([*nameless, *named])

    assert out == {"anonymous_share": 75}
    assert sum(count for user, count in users.items() if user and user.startswith("u")) == 100
    assert cut(nameless)[1] == {}


def test_a_tenant_has_the_share_that_the_task_says():
    rows = [
        said(number, user=f"u{number}", tenant="large" if number < 90 else f"t{number % 9}") for number in range(120)
    ]

    assert cut(rows)[1] == {}
    _, out = cut(rows, tenant_share=0.25)
    assert out == {"tenant_share": 80}


def test_a_row_must_have_the_form_that_the_task_asks_for():
    rows = [
        said(1).row, said(2, " ").row, said(3, text="\n").row, said(4, "a\x00b").row, said(5, "nonsense").row,
        said(6, "two\nlines").row,
    ]  # fmt: skip

    assert faults(rows, ("returns",)) == {1: "empty", 2: "empty", 3: "format", 4: "label", 5: "label"}
    assert faults(rows, ()) == {1: "empty", 2: "empty", 3: "format"}
    assert faults([], ()) == {}
