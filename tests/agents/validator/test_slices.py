"""Slices of the judged rows: what they are called, and which are too small."""

from agents.validator.slices import make_slices
from tests.agents.validator.room import ROUTING, SUPPORT, row


def named(found, kind):
    return [(each.name, len(each.places), each.is_judged) for each in found if each.kind == kind]


def test_rows_are_divided_by_label_and_tenant_largest_first():
    rows = [row(number, "orders", tenant="acme") for number in range(30)]
    rows += [row(number, "courses") for number in range(29)]
    found = make_slices(ROUTING, rows)
    assert named(found, "label") == [("orders", 30, True), ("courses", 29, False)]
    assert named(found, "tenant") == [("acme", 30, True), ("no tenant", 29, False)]
    (courses,) = [each for each in found if each.name == "courses"]
    assert [rows[place].output for place in courses.places] == ["courses"] * 29
    assert named(make_slices(SUPPORT, rows), "label") == [], "a text is no label"


def test_lengths_are_divided_into_thirds_of_the_rows():
    found = make_slices(SUPPORT, [row(number, input="x" * (number + 1)) for number in range(90)])
    assert sorted(named(found, "length")) == [
        ("31 to 60 characters", 30, True),
        ("at most 30 characters", 30, True),
        ("more than 60 characters", 30, True),
    ]


def test_rows_of_one_kind_are_no_slice_of_it():
    assert make_slices(ROUTING, [row(1, input="same") for _ in range(60)]) == ()
    assert make_slices(ROUTING, []) == ()
    two = make_slices(ROUTING, [row(1, input="a" * length) for length in (1, 1, 1, 5)])
    assert sorted(named(two, "length")) == [("at most 1 characters", 3, False), ("more than 1 characters", 1, False)]
