"""Raters who systematically say something else than others do of similar inputs, and honest ones who do not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import cycle

from agents.demo.shop import CustomerMessage, messages
from agents.trainer.candidates import Candidate
from agents.trainer.outvoted import outvoted
from schemas.datasets import DatasetRow

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def said(message: CustomerMessage, label: str, user: str, *, kept: bool = False, trust: str = "owner") -> Candidate:
    row = DatasetRow(
        row_id=message.id, input=message.text, output=label, origin="correction", origin_id=message.id,
        at=NOW + timedelta(seconds=int(message.id[1:])), split="train", user=user, trust=trust,
    )  # fmt: skip
    return Candidate(row=row, kept=kept)


def learned() -> list[Candidate]:
    return [said(each, each.label, each.user, kept=True) for each in messages("examples")]


def honest() -> list[Candidate]:
    return [said(each, each.label, each.user) for each in messages("ordinary", "canary_old", "canary_first")]


def test_a_rater_who_swaps_the_labels_of_a_class_is_outvoted_and_nobody_else():
    returns = [each for each in messages("heldout_old") if each.label == "returns"][:12]
    flipped = [said(each, "courses", "mallory") for each in returns]

    remaining, out = outvoted([*learned(), *honest(), *flipped])

    assert {each.row.user for each in out} == {"mallory"}
    assert {each.reason for each in out} == {"outvoted"}
    assert "against others on" in out[0].detail
    assert len(remaining) == len(learned()) + len(honest())


def test_a_rater_with_very_many_rows_is_outvoted_too():
    def row(number: int, text: str, label: str, *, kept: bool = False) -> Candidate:
        message = CustomerMessage(id=f"m{number}", text=text, label=label, user="mallory", split="ordinary")
        return said(message, label, "mallory" if not kept else "old", kept=kept)

    towns = [6 * letter for letter in "abcdefghijklmno"]
    known = [row(number, f"parcel to {town}", "delivery", kept=True) for number, town in enumerate(towns)]
    known += [row(number, f"shoes of size {number}", "returns", kept=True) for number in range(20, 40)]
    many = [
        row(number, f"{towns[number % 15]} {number}", "returns" if number % 5 < 3 else "delivery")
        for number in range(100, 1200)
    ]

    _, out = outvoted([*known, *many])

    assert len(out) == len(many)


def test_a_few_raters_who_collude_do_not_vouch_for_each_other():
    returns = [each for each in messages("heldout_old") if each.label == "returns"]
    users = cycle(["m1", "m2"])
    flipped = [said(each, "courses", user) for each, user in zip(returns, users, strict=False)]

    _, out = outvoted([*learned(), *honest(), *flipped])

    assert {each.row.user for each in out} == {"m1", "m2"}
    assert len(out) == len(flipped)


def test_a_class_that_the_champion_does_not_know_can_be_taught_by_few_and_by_many():
    skates = messages("drift_new")
    alone = [said(each, "skates", "ann") for each in skates[:20]]
    assert outvoted([*learned(), *alone])[1] == []
    assert outvoted([*learned(), *honest(), *(said(each, "skates", each.user) for each in skates)])[1] == []


def test_when_the_facts_change_those_who_say_so_first_agree_with_each_other():
    changed = [each for each in messages("heldout_old", "ordinary") if each.label == "returns"]
    new = [said(each, "orders", f"u{place % 5}") for place, each in enumerate(changed)]

    assert outvoted([*learned(), *new])[1] == []


def test_a_reviewer_is_never_outvoted():
    flipped = [said(each, "courses", "rev", trust="reviewer") for each in messages("heldout_old")[:40]]
    assert outvoted([*learned(), *honest(), *flipped])[1] == []


def test_without_rows_of_users_there_is_nothing_to_compare():
    assert outvoted([]) == ([], [])
    assert outvoted(learned()) == (learned(), [])
