"""Windows of answers: which answers are in which window, and what a window counts."""

from __future__ import annotations

from dataclasses import replace

from agents.monitor.windows import OTHER, described, figures, label_of, make_windows, span, unit_of
from schemas.features import Interaction
from tests.agents.monitor.rows import POLICY, ROUTING, START, SUPPORT, row


def windows_of(rows: list[Interaction]):
    return make_windows(rows[: POLICY.read_rows], rows[-POLICY.read_rows :], POLICY)


def test_windows_follow_each_other_and_never_reach_into_the_reference():
    rows = [row(number) for number in range(190)]
    found = windows_of(rows)
    assert found.reference == rows[:100]
    assert [(window[0].answer_id, window[-1].answer_id) for window in found.currents] == [
        ("a00100", "a00189"),
        ("a00100", "a00169"),
    ]


def test_a_window_looks_back_over_sixteen_times_its_length_at_most():
    policy = POLICY.model_copy(update={"current_rows": 20})
    rows = [row(number) for number in range(600)]
    found = make_windows(rows[: policy.read_rows], rows[-policy.read_rows :], policy)
    assert [(window[0].answer_id, window[-1].answer_id) for window in found.currents] == [
        ("a00280", "a00599"),
        ("a00260", "a00579"),
        ("a00240", "a00559"),
    ]


def test_the_reference_is_the_first_half_of_the_answers_between_two_limits():
    policy = POLICY.model_copy(update={"longest_reference_rows": 300})
    for count, reference in ((160, 100), (260, 130), (599, 299), (601, 300), (5000, 300)):
        rows = [row(number) for number in range(count)]
        found = make_windows(rows[: policy.read_rows], rows[-policy.read_rows :], policy)
        assert len(found.reference) == reference


def test_rows_of_nobody_in_particular_count_by_tens():
    users = [replace(row(number), user="ada" if number == 3 else None) for number in range(21)]
    units = [unit_of(each, number) for number, each in enumerate(users)]
    assert units[3] == "ada"
    assert len(set(units)) == 4


def test_there_is_no_current_window_before_it_is_full():
    assert windows_of([row(number) for number in range(159)]).currents == ()
    assert windows_of([row(number) for number in range(159)]).rest_rows == 59
    assert windows_of([row(number) for number in range(60)]).currents == ()
    assert len(windows_of([row(number) for number in range(160)]).currents) == 1


def test_a_window_spans_the_times_of_its_answers():
    window = span([row(3), row(7)], START)
    assert (window.rows, (window.end - window.start).total_seconds()) == (2, 4)
    assert (span([], START).start, span([], START).rows) == (START, 0)


def test_figures_count_what_users_said():
    rows = [row(1), row(2, outcome="corrected"), row(3, outcome="unrated"), row(4, outcome="failed")]
    assert figures(rows) == {"rated": 2, "bad": 1, "corrected": 1, "failed": 1}


def test_a_label_is_found_whatever_its_case_and_anything_else_is_other():
    assert label_of(row(1, answer=" Returns\n"), ROUTING) == "returns"
    assert label_of(row(1, answer="I think it is returns"), ROUTING) == OTHER


def test_columns_hold_every_row_of_both_windows():
    rows = [row(1, score=0.5), row(2, outcome="failed"), row(3, answer="It depends on it")]
    measured, named = described(rows[:2], rows[2:], SUPPORT)
    assert measured["best source, cosine"] == [0.5, -1.0, -1.0]
    assert measured["answer, characters"] == [6.0, None, 16.0]
    assert named["outcome"] == ["approved", "failed", "approved"]
    assert named["answer"] == ["orders", OTHER, "it depends"]
    assert {len(values) for values in measured.values()} == {len(values) for values in named.values()} == {3}
