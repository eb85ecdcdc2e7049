"""When a check is due, and when drift is published again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agents.monitor.schedule import AnswerCounts, is_due, is_repeated
from schemas.drift import DriftCheck
from schemas.learning import Remedy, Window
from tests.agents.monitor.rows import SCHEDULE, START

WINDOW = Window(start=START, end=START, rows=10)


def check(*, verdict: str | None = None, told: Remedy | None = None, rated: int = 0) -> DriftCheck:
    return DriftCheck(
        check_id="c",
        task="t",
        checked_at=START,
        baseline=0,
        reference=WINDOW,
        current=WINDOW,
        findings=(),
        verdict=verdict,
        figures={"rated": float(rated)},
        told_at=START if told else None,
        told=told,
    )


def at(seconds: float):
    return START + timedelta(seconds=seconds)


def test_nothing_is_due_before_both_windows_are_full():
    assert not is_due(AnswerCounts(rows=9), None, SCHEDULE, START)
    assert is_due(AnswerCounts(rows=10), None, SCHEDULE, START)


def test_the_next_check_waits_for_new_answers():
    assert not is_due(AnswerCounts(rows=10, fresh=1), check(), SCHEDULE, START)
    assert is_due(AnswerCounts(rows=10, fresh=2), check(), SCHEDULE, START)


def test_late_ratings_make_a_check_due_without_new_answers():
    assert not is_due(AnswerCounts(rows=10, rated=4), check(rated=3), SCHEDULE, START)
    assert is_due(AnswerCounts(rows=10, rated=5), check(rated=3), SCHEDULE, START)


def test_told_drift_is_looked_at_again_when_the_cool_down_is_over():
    told = check(verdict="outcomes", told="retrain")
    assert not is_due(AnswerCounts(rows=10), told, SCHEDULE, at(3599))
    assert is_due(AnswerCounts(rows=10), told, SCHEDULE, at(3600))
    assert not is_due(AnswerCounts(rows=10), check(told="retrain"), SCHEDULE, at(9999))


def test_a_check_that_a_clock_ahead_wrote_silences_nothing():
    told = check(verdict="drift", told="label")
    assert is_due(AnswerCounts(rows=10), told, SCHEDULE, at(-86_400))
    assert not is_due(AnswerCounts(rows=10), told, SCHEDULE, at(-300))
    assert not is_repeated(told, "label", at(-86_400), SCHEDULE)


def test_while_a_training_was_advised_a_short_while_ago_no_check_is_made():
    told = check(verdict="outcomes", told="retrain")
    assert not is_due(AnswerCounts(rows=10, fresh=2), told, SCHEDULE, at(3599))
    assert is_due(AnswerCounts(rows=10, fresh=2), told, SCHEDULE, at(3600))
    assert is_due(AnswerCounts(rows=10, fresh=2), check(verdict="questions", told="label"), SCHEDULE, at(10))


@pytest.mark.parametrize(
    ("told", "remedy", "seconds", "silent"),
    [
        (None, "retrain", 0, False),
        ("retrain", "retrain", 3599, True),
        ("retrain", "retrain", 3600, False),
        ("retrain", "label", 10, True),
        ("label", "retrain", 10, False),
        ("none", "label", 10, False),
    ],
)
def test_the_cool_down_silences_all_but_a_remedy_that_asks_for_more(told, remedy, seconds, silent):
    last = check(verdict="outcomes", told=told) if told else None
    assert is_repeated(last, remedy, at(seconds), SCHEDULE) is silent
