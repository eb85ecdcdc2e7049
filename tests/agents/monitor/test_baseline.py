"""Since when answers are compared, whichever part of promotions.v1 a worker has seen."""

from __future__ import annotations

from agents.monitor.schedule import FollowedRelease, baseline_of, follow
from schemas.drift import Baseline
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryStarted

CANARY = CanaryStarted(task="t", sequence=1, challenger="new", stage="canary", share=0.1)
PROMOTED = AdapterPromoted(task="t", sequence=3, champion="new")


def test_without_a_release_everything_counts():
    assert baseline_of(None, None, None) == Baseline()


def test_a_promotion_is_a_new_baseline_and_a_canary_after_it_is_not():
    followed = follow(follow(None, CANARY), PROMOTED)
    followed = follow(followed, CanaryStarted(task="t", sequence=4, champion="new", challenger="newer"))
    assert followed == FollowedRelease(sequence=4, champion="new", since=3)
    assert baseline_of(followed, None, None) == Baseline(sequence=3, champion="new")


def test_an_older_or_repeated_event_changes_nothing():
    followed = follow(None, PROMOTED)
    assert follow(followed, CANARY) == follow(followed, PROMOTED) == followed


def test_rolling_back_the_champion_is_a_new_baseline():
    followed = follow(follow(None, PROMOTED), AdapterRolledBack(task="t", sequence=4, champion="old"))
    assert baseline_of(followed, None, 3) == Baseline(sequence=4, champion="old")


def test_rolling_back_a_challenger_is_none():
    followed = follow(follow(None, PROMOTED), AdapterRolledBack(task="t", sequence=5, champion="new"))
    assert baseline_of(followed, None, None) == Baseline(sequence=3, champion="new")


def test_after_compaction_the_answers_say_when_the_champion_changed():
    left_over = follow(None, CanaryStarted(task="t", sequence=7, champion="new", challenger="newer"))
    assert left_over.since is None
    assert baseline_of(left_over, 2, None) == Baseline(sequence=3, champion="new")
    assert baseline_of(left_over, None, None) == Baseline(sequence=0, champion="new")


def test_a_restart_keeps_the_last_checks_baseline_as_long_as_it_can_be_right():
    left_over = follow(None, AdapterRolledBack(task="t", sequence=7, champion="new"))
    assert baseline_of(left_over, 2, 4) == Baseline(sequence=4, champion="new")
    assert baseline_of(left_over, 5, 4) == Baseline(sequence=6, champion="new")


def test_a_champion_whose_task_has_changed_a_little_has_a_new_baseline_that_a_restart_finds():
    renewed = AdapterPromoted(task="t", sequence=5, champion="new", renewed=5)
    expected = Baseline(sequence=5, champion="new", renewed=True)
    assert baseline_of(follow(follow(None, PROMOTED), renewed), None, 3) == expected
    canary = CanaryStarted(task="t", sequence=6, champion="new", challenger="newer", renewed=5)
    assert baseline_of(follow(None, canary), 2, 3) == expected
    newer = AdapterPromoted(task="t", sequence=7, champion="newer")
    assert baseline_of(follow(follow(None, canary), newer), None, None) == Baseline(sequence=7, champion="newer")
