"""What the rules decide from given counts, and how often that is right for given true rates."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.promoter import changes
from agents.promoter.canary import CanaryVerdict, comparisons, judge_canary, judge_champion
from schemas.guardrails import step_of
from schemas.policies import PromoterPolicy
from schemas.questions import Arm
from schemas.release_state import ArmCounts, Release

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = PromoterPolicy(shares=(0.2, 0.5), judged=20, watch_seconds=600.0)
CANARY = changes.start(Release(task="t"), "a", stage="canary", share=0.2, reason="", at=START).release
SECOND = changes.advance(CANARY, share=0.5, reason="", at=START).release


def counts(arm: Arm, judged: int, bad: float, *, failed: float = 0, unrated: int = 0, sequence: int = 1) -> ArmCounts:
    asked = judged + unrated
    return ArmCounts(sequence=sequence, arm=arm, asked=asked, failed=failed, judged=judged, bad=bad)


def judge(*some: ArmCounts, release: Release = CANARY, seconds: float = 0.0) -> CanaryVerdict:
    return judge_canary(release, some, POLICY, START + timedelta(seconds=seconds))


def test_nothing_is_decided_before_enough_users_of_both_arms_have_rated():
    assert judge() == CanaryVerdict()
    assert judge(counts("challenger", 19, 2), counts("champion", 80, 8)).step == "wait"
    assert judge(counts("challenger", 40, 4), counts("champion", 19, 2)).step == "wait"


def test_a_challenger_that_is_as_good_goes_on_share_by_share():
    some = counts("challenger", 20, 2), counts("champion", 80, 8)
    verdict = judge(*some)
    assert (verdict.step, verdict.share) == ("advance", 0.5)
    assert verdict.reason == (
        "2 of 20 (10%) users' ratings were bad, 8 of 80 (10%) of the champion's: good enough for a larger share"
    )
    assert judge(*some, release=SECOND).step == "wait"
    few = counts("challenger", 20, 2, sequence=2), counts("champion", 20, 2, sequence=2)
    assert judge(*some, *few, release=SECOND).step == "wait"  # not certain enough for everybody
    many = counts("challenger", 200, 20, sequence=2), counts("champion", 200, 20, sequence=2)
    verdict = judge(*some, *many, release=SECOND)
    assert verdict.step == "promote"
    assert verdict.reason.endswith("not worse by 10% with the policy's confidence")


def test_settings_that_changed_during_a_canary_do_not_confuse_it():
    some = counts("challenger", 20, 2), counts("champion", 80, 8)
    assert judge(*some, release=replace(CANARY, share=0.3)).share == 0.5
    many = counts("challenger", 200, 20), counts("champion", 200, 20)
    assert judge(*many, release=replace(CANARY, share=0.6)).step == "promote"


def test_an_experiment_has_one_stage():
    some = counts("challenger", 200, 20), counts("champion", 200, 20)
    assert judge(*some, release=replace(CANARY, stage="experiment")).step == "promote"


def test_a_challenger_that_is_certainly_better_is_promoted_early():
    verdict = judge(counts("challenger", 12, 0), counts("champion", 60, 36))
    assert verdict.step == "promote"
    assert verdict.reason.endswith("better with the policy's confidence")
    assert judge(counts("challenger", 9, 0), counts("champion", 60, 50)).step == "wait"  # five friends are not enough


def test_what_is_certainly_worse_is_rolled_back_before_there_are_enough_ratings():
    verdict = judge(counts("challenger", 8, 8), counts("champion", 30, 3))
    assert verdict.step == "roll back"
    assert verdict.reason.startswith(
        "8 of 8 (100%) users' ratings were bad, 3 of 30 (10%) of the champion's: worse with a confidence of 99.9"
    )


def test_a_challenger_that_turns_bad_at_its_second_share_is_rolled_back_there():
    first = counts("challenger", 100, 10), counts("champion", 400, 40)
    second = counts("challenger", 25, 15, sequence=2), counts("champion", 25, 3, sequence=2)
    assert judge(*first, *second, release=SECOND).step == "roll back"


def test_a_fall_of_quality_in_both_arms_is_not_held_against_the_challenger():
    # Pooled over both shares, 36 % of the challenger's ratings are bad, and 26 % of the champion's.
    first = counts("challenger", 100, 20), counts("champion", 900, 180)
    second = counts("challenger", 400, 160, sequence=2), counts("champion", 400, 160, sequence=2)
    assert judge(*first, *second, release=SECOND).step == "promote"


def test_failed_answers_count_without_any_rating():
    verdict = judge(counts("challenger", 0, 0, failed=8, unrated=8), counts("champion", 0, 0, unrated=40))
    assert verdict.reason.startswith("8 of 8 (100%) users' answers failed, 0 of 40 (0%) of the champion's: worse by")


def of_users(arm: Arm, users: int, **facts: Any) -> ArmCounts:
    """Users who got answers and rated none."""
    usual: dict[str, Any] = {"slowness": {step_of(1000): users}, "length": {step_of(200): users}}
    return replace(counts(arm, 0, 0, unrated=users), answered=users, **{**usual, **facts})


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (
            {"declined": 15.0},
            "15 of 20 (75%) users' answers declined, 4 of 80 (5%) of the champion's: worse by more than 10%",
        ),
        (
            {"asked_back": 18.0},
            "18 of 20 (90%) users' answers asked back, 8 of 80 (10%) of the champion's: worse by more",
        ),
        (
            {"slowness": {step_of(4000): 20}},
            "20 of 20 (100%) users waited 2.05 s or more on average, 0 of 80 (0%) of the",
        ),
        (
            {"length": {step_of(2000): 20}},
            "20 of 20 (100%) users had answers of 861 characters or more on average, 0 of 80",
        ),
    ],
)
def test_a_challenger_beyond_a_guardrail_is_rolled_back_without_any_rating(facts: dict[str, Any], reason: str):
    champion = of_users("champion", 80, declined=4.0, asked_back=8.0)
    verdict = judge(of_users("challenger", 20, **{"declined": 1.0, "asked_back": 2.0, **facts}), champion)
    assert verdict.step == "roll back"
    assert verdict.reason.startswith(reason)
    assert "with a confidence of" in verdict.reason
    assert judge(of_users("challenger", 20, declined=1.0, asked_back=2.0), champion).step == "wait"


def test_a_guardrail_names_what_is_allowed():
    slow = of_users("challenger", 20, slowness={step_of(5000): 20}), of_users("champion", 80)
    assert judge(*slow).reason.endswith(
        "of the champion's 1.02 s or more: more than 2 times as slow with a confidence of 99.9%"
    )
    patient = POLICY.model_copy(update={"max_slower": 6.0})
    assert judge_canary(CANARY, slow, patient, START).step == "wait"


def test_shorter_answers_have_no_limit_unless_one_is_set():
    short = of_users("challenger", 20, length={step_of(9): 20}), of_users("champion", 80)
    assert judge(*short).step == "wait"
    verdict = judge_canary(CANARY, short, POLICY.model_copy(update={"max_shorter": 5.0}), START)
    assert verdict.step == "roll back"
    assert "20 of 20 (100%) users had answers of 38.1 characters or less on average" in verdict.reason
    assert "more than 5 times as short" in verdict.reason
    within = of_users("challenger", 20, length={step_of(60): 20}), of_users("champion", 80)
    assert judge_canary(CANARY, within, POLICY.model_copy(update={"max_shorter": 5.0}), START).step == "wait"


def test_a_better_challenger_is_not_promoted_while_a_guardrail_speaks_against_it():
    ours, theirs = counts("challenger", 12, 0), counts("champion", 60, 36)
    assert judge(ours, theirs).step == "promote"
    steady: dict[str, Any] = {"answered": 60, "declined": 3.0}
    suspect = replace(ours, answered=12, declined=3.0)
    verdict = judge(suspect, replace(theirs, **steady), seconds=700)
    assert verdict.step in ("wait", "hold")
    assert judge(replace(ours, answered=12, declined=0.0), replace(theirs, **steady)).step == "promote"


def test_who_rates_others_answers_and_asks_nothing_confuses_no_complaint():
    ours = ArmCounts(sequence=1, arm="challenger", asked=1, failed=0, judged=30, bad=12)
    assert judge(ours, counts("champion", 30, 12)).step in ("wait", "advance")


def test_a_promoted_champion_is_watched_by_the_same_guardrails():
    promoted = changes.promote(CANARY, "a", reason="", at=START).release
    after = replace(of_users("champion", 40, declined=30.0), sequence=2)
    verdict = judge_champion(promoted, [of_users("champion", 80, declined=4.0), after], POLICY, START)
    assert verdict.step == "roll back"
    assert verdict.reason.startswith("since it was promoted 30 of 40 (75%) users' answers declined, 4 of 80 (5%)")
    slow = replace(of_users("champion", 40, slowness={step_of(9000): 40}), sequence=2)
    assert judge_champion(promoted, [of_users("champion", 80), slow], POLICY, START).step == "roll back"


def test_every_comparison_can_be_read_while_a_canary_runs():
    some = of_users("challenger", 20, declined=1.0), of_users("champion", 80)
    assert comparisons(CANARY, some, POLICY)[2:] == [
        "0 of 20 (0%) users' answers failed, 0 of 80 (0%) of the champion's (10% more is allowed)",
        "1 of 20 (5%) users' answers declined, 0 of 80 (0%) of the champion's (10% more is allowed)",
        "0 of 20 (0%) users' answers asked back, 0 of 80 (0%) of the champion's (20% more is allowed)",
        "0 of 20 (0%) users waited 2.05 s or more on average, 0 of 80 (0%) of the champion's 1.02 s or more "
        "(2 times as slow is allowed)",
        "0 of 20 (0%) users had answers of 861 characters or more on average, 0 of 80 (0%) of the champion's "
        "215 characters or more (4 times as long is allowed)",
    ]
    nobody = comparisons(CANARY, [], POLICY)
    assert nobody[0] == "0 of 0 users' ratings were bad, 0 of 0 of the champion's"


def test_where_only_the_displeased_say_something_their_number_decides():
    verdict = judge(counts("challenger", 25, 25, unrated=5), counts("champion", 25, 25, unrated=95))
    assert verdict.step == "roll back"
    assert "25 of 30 (83%) users complained, 25 of 120 (21%)" in verdict.reason


def test_time_that_is_over_holds_and_says_what_is_missing():
    few = counts("challenger", 5, 0), counts("champion", 60, 6)
    assert judge(*few, seconds=599).step == "wait"
    verdict = judge(*few, seconds=600)
    assert (verdict.step, verdict.reason) == (
        "hold",
        "holds at 20% of the users after 600 s: 5 users of the challenger have rated at this share and 60 of the "
        "champion, 20 of each are needed",
    )
    undecided = judge(counts("challenger", 20, 6), counts("champion", 80, 12), seconds=600)
    assert (undecided.step, undecided.reason[:54]) == ("hold", "holds at 20% of the users after 600 s: undecided, 6 of")
    assert judge(counts("challenger", 20, 2), counts("champion", 80, 8), seconds=900).step == "advance"


def test_a_champion_out_of_a_canary_is_watched_and_one_by_hand_is_not():
    promoted = changes.promote(CANARY, "a", reason="", at=START).release
    assert changes.is_watched(promoted)
    assert not changes.is_watched(changes.promote(CANARY, "other", reason="", at=START).release)
    assert not changes.is_watched(changes.take_back(CANARY, reason="", at=START).release)
    assert not changes.is_watched(Release(task="t"))
    before = counts("champion", 80, 8), counts("challenger", 20, 2)

    def watch(*after: ArmCounts, seconds: float = 0.0) -> str:
        return judge_champion(promoted, [*before, *after], POLICY, START + timedelta(seconds=seconds)).step

    assert watch(counts("champion", 10, 3, sequence=2)) == "wait"
    assert watch(counts("champion", 20, 14, sequence=2)) == "roll back"
    assert watch(counts("champion", 40, 6, sequence=2)) == "end watch"
    assert watch(seconds=600) == "end watch"
