"""Windows of answers: which answers are in which window, and what a window counts."""

from __future__ import annotations

from agents.monitor.windows import OTHER, described, figures, label_of, make_windows, span
from schemas.features import Interaction
from tests.agents.monitor.rows import POLICY, ROUTING, START, SUPPORT, row


def windows_of(rows: list[Interaction]):
    return make_windows(rows[: POLICY.reference_rows], rows[-POLICY.newest_rows :], POLICY)


def test_windows_follow_each_other_and_never_reach_into_the_reference():
    rows = [row(number) for number in range(190)]
    found = windows_of(rows)
    assert found.reference == rows[:100]
    assert [(window[0].answer_id, window[-1].answer_id) for window in found.currents] == [
        ("a00130", "a00189"),
        ("a00110", "a00169"),
    ]


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
