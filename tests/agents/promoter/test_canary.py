"""What the rules decide from given counts, and how often that is right for given true rates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agents.promoter import changes
from agents.promoter.canary import CanaryVerdict, is_watched, judge_canary, judge_champion
from schemas.policies import PromoterPolicy
from schemas.questions import Arm
from schemas.release_state import ArmCounts, Release
from tests.agents.promoter.simulation import START, Users, play, share_of

POLICY = PromoterPolicy(shares=(0.2, 0.5), judged=20, watch_seconds=600.0)
DEMO = PromoterPolicy(shares=(0.3,), judged=20)
DEFAULT = PromoterPolicy()
CANARY = changes.start(Release(task="t"), "a", stage="canary", share=0.2, reason="", at=START).release


def counts(arm: Arm, judged: int, bad: int, *, failed: int = 0, unrated: int = 0, sequence: int = 1) -> ArmCounts:
    asked = judged + failed + unrated
    return ArmCounts(sequence=sequence, arm=arm, asked=asked, failed=failed, judged=judged, bad=bad)


def judge(*some: ArmCounts, release: Release = CANARY, seconds: float = 0.0) -> CanaryVerdict:
    return judge_canary(release, some, POLICY, START + timedelta(seconds=seconds))


def test_nothing_is_decided_before_there_are_enough_ratings_of_both():
    assert judge() == CanaryVerdict()
    assert judge(counts("challenger", 19, 1), counts("champion", 80, 8)).step == "wait"
    assert judge(counts("challenger", 40, 1), counts("champion", 19, 1)).step == "wait"


def test_a_challenger_that_is_as_good_goes_on_share_by_share():
    some = counts("challenger", 20, 2), counts("champion", 80, 8)
    verdict = judge(*some)
    assert (verdict.step, verdict.share) == ("advance", 0.5)
    assert verdict.reason.startswith(
        "2 of 20 (10%) rated answers were bad, 8 of 80 (10%) of the champion's: good enough"
    )
    second = changes.advance(CANARY, share=0.5, reason="", at=START).release
    assert judge(*some, release=second).step == "wait"
    more = *some, counts("challenger", 20, 2, sequence=2), counts("champion", 20, 2, sequence=2)
    assert judge(*more, release=second).step == "promote"


def test_settings_that_changed_during_a_canary_do_not_confuse_it():
    some = counts("challenger", 20, 2), counts("champion", 80, 8)
    assert judge(*some, release=replace(CANARY, share=0.3)).share == 0.5
    assert judge(*some, release=replace(CANARY, share=0.6)).step == "promote"


def test_an_experiment_has_one_stage():
    some = counts("challenger", 20, 2), counts("champion", 20, 2)
    assert judge(*some, release=replace(CANARY, stage="experiment")).step == "promote"


def test_what_is_certainly_worse_is_rolled_back_before_there_are_enough_ratings():
    verdict = judge(counts("challenger", 8, 8), counts("champion", 30, 3))
    assert verdict.step == "roll back"
    assert verdict.reason.startswith(
        "8 of 8 (100%) rated answers were bad, 3 of 30 (10%) of the champion's: worse with"
    )


def test_failed_answers_count_without_any_rating():
    verdict = judge(counts("challenger", 0, 0, failed=8), counts("champion", 0, 0, unrated=40))
    assert verdict.reason.startswith("8 of 8 (100%) answers failed, 0 of 40 (0%) of the champion's: worse with")


def test_where_only_the_displeased_say_something_their_number_decides():
    verdict = judge(counts("challenger", 25, 25, unrated=5), counts("champion", 25, 25, unrated=95))
    assert verdict.step == "roll back"
    assert "25 of 30 (83%) answers were called bad, 25 of 120 (21%)" in verdict.reason


def test_what_is_likely_too_bad_gets_twice_the_ratings_and_then_goes():
    assert judge(counts("challenger", 20, 6), counts("champion", 80, 12)).step == "wait"
    verdict = judge(counts("challenger", 40, 12), counts("champion", 160, 24))
    assert verdict.step == "roll back"
    assert "30%" in verdict.reason
    assert verdict.reason.endswith("too much worse")


def test_time_that_is_over_rolls_back_and_says_why():
    few = counts("challenger", 5, 0), counts("champion", 60, 6)
    assert judge(*few, seconds=599).step == "wait"
    verdict = judge(*few, seconds=600)
    assert (verdict.step, verdict.reason) == (
        "roll back",
        "too few ratings in 600 s to be judged: 5 of the challenger at this share and 60 of the champion, "
        "20 of each are needed",
    )
    undecided = judge(counts("challenger", 20, 6), counts("champion", 80, 12), seconds=600)
    assert (undecided.step, undecided.reason[:24]) == ("roll back", "undecided after 600 s: 6")
    assert judge(counts("challenger", 20, 2), counts("champion", 80, 8), seconds=900).step == "advance"


def test_a_champion_out_of_a_canary_is_watched_and_one_by_hand_is_not():
    promoted = changes.promote(CANARY, "a", reason="", at=START).release
    assert is_watched(promoted)
    assert not is_watched(changes.promote(CANARY, "other", reason="", at=START).release)
    assert not is_watched(changes.take_back(CANARY, reason="", at=START).release)
    assert not is_watched(Release(task="t"))
    before = counts("champion", 80, 8), counts("challenger", 20, 2)

    def watch(*after: ArmCounts, seconds: float = 0.0) -> str:
        return judge_champion(promoted, [*before, *after], POLICY, START + timedelta(seconds=seconds)).step

    assert watch(counts("champion", 10, 3, sequence=2)) == "wait"
    assert watch(counts("champion", 20, 14, sequence=2)) == "roll back"
    assert watch(counts("champion", 40, 6, sequence=2)) == "end watch"
    assert watch(seconds=600) == "end watch"


# How often it is right. Larger runs with other rates gave the figures beside ``LIKELY``.


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_of_canaries_of_an_equally_good_challenger_at_most_a_tenth_is_rolled_back(rate):
    users = Users(bad=(rate, rate), rates=(0.8, 0.8), look_every=20)
    assert share_of("roll back", users, DEFAULT, canaries=50) <= 0.1


def test_of_canaries_in_small_at_most_a_tenth_is_rolled_back_wrongly():
    assert share_of("roll back", Users(bad=(0.3, 0.3), rates=(0.8, 0.8), look_every=10), DEMO, canaries=100) <= 0.1


@pytest.mark.parametrize("rate", [0.25, 0.4])
def test_a_challenger_that_is_twice_as_bad_is_caught_nearly_always(rate):
    users = Users(bad=(2 * rate, rate), rates=(0.8, 0.8), look_every=20)
    assert share_of("roll back", users, DEFAULT, canaries=40) >= 0.95


def test_with_a_few_ratings_only_the_better_is_promoted_and_the_twice_as_bad_is_not():
    better, worse = Users(bad=(0.1, 0.5), rates=(0.8, 0.8)), Users(bad=(0.9, 0.45), rates=(0.8, 0.8))
    assert share_of("promote", better, DEMO, canaries=60) == 1.0
    assert share_of("roll back", worse, DEMO, canaries=60) == 1.0


def test_complaints_alone_catch_a_challenger_that_is_twice_as_bad():
    users = Users(bad=(0.6, 0.3), rates=(0.0, 0.8), look_every=20)
    assert share_of("roll back", users, DEFAULT, canaries=30) >= 0.9


def test_failures_that_double_are_caught_though_nobody_rates():
    import numpy as np

    users = Users(bad=(0.0, 0.0), failed=(0.4, 0.05), rates=(0.0, 0.0), look_every=20)
    ends = [play(users, DEFAULT, np.random.default_rng(seed)) for seed in range(20)]
    assert {end.step for end in ends} == {"roll back"}
    assert max(end.asked for end in ends) < 1000
