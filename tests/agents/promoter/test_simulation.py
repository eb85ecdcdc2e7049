"""How often the rules are right for given true rates, and that the simulation is that of single events.

Each cell has 200 canaries or more. ``benchmarks/canary.py`` runs more of them and more cells; its tables are in
docs/learning.md. Bounds here leave room for the chance of 200.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from agents.promoter import changes
from agents.promoter.canary import judge_canary
from agents.promoter.simulation import (
    Conduct,
    Ends,
    Traffic,
    contradictions,
    recorded,
    simulate,
    simulate_cases,
    usual_cases,
    wilson,
)
from schemas.features import Interaction
from schemas.interactions import InteractionOutcome
from schemas.policies import PromoterPolicy
from schemas.release_state import ArmCounts, Release

DEFAULT = PromoterPolicy()
START = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = Conduct(failed=0.0, declined=0.0, asked_back=0.0)


def ends_of(champion: float, challenger: float, policy: PromoterPolicy = DEFAULT, *, moves: float = 0.2) -> Ends:
    return simulate(policy, Traffic(champion=champion, challenger=challenger, moves=moves), canaries=200, seed=1)


@pytest.mark.parametrize("bad", [0.05, 0.3])
def test_equal_arms_are_promoted_though_quality_falls_between_the_shares(bad: float):
    ends = ends_of(bad, bad)
    assert ends.share("promoted") >= 0.85
    assert ends.share("rolled back") <= 0.06


@pytest.mark.parametrize("bad", [0.05, 0.3])
def test_a_challenger_ten_points_worse_is_hardly_ever_promoted(bad: float):
    assert ends_of(bad, bad + 0.1).share("promoted") <= 0.07


@pytest.mark.parametrize(("shares", "most"), [((0.1, 0.5), 40), ((0.5,), 70)])
def test_a_challenger_much_worse_is_rolled_back_soon(shares: tuple[float, ...], most: int):
    ends = ends_of(0.2, 0.45, PromoterPolicy(shares=shares))
    assert ends.share("promoted") == 0
    median = ends.outcomes_until("rolled back")
    assert median is not None
    assert median < most


def test_a_challenger_much_better_is_promoted_soon():
    ends = ends_of(0.5, 0.07, moves=0.0)
    assert ends.share("promoted") >= 0.98
    ninth = ends.outcomes_until("promoted", 0.9)
    assert ninth is not None
    assert ninth <= 30


def test_with_fewer_users_than_it_takes_a_canary_stays_undecided():
    traffic = Traffic(champion=0.2, challenger=0.2, users=40)
    assert simulate(DEFAULT, traffic, canaries=100).share("undecided") >= 0.9


def one_event_after_another(
    policy: PromoterPolicy, champion: float, challenger: float, *, canaries: int, users: int = 5000
) -> tuple[float, float]:
    """Runs canaries as the product would see them; returns the parts that were promoted and rolled back.

    Users come again and again, by Zipf's law, and a fifth of them rate; each outcome is judged by ``judge_canary``.
    """
    dice = np.random.default_rng(11)
    weights = 1 / np.arange(1, users + 1)
    promoted = rolled_back = 0
    for _ in range(canaries):
        place, rates = dice.random(users), dice.random(users) < 0.2
        release = changes.start(
            Release(task="t"), "a", stage="canary", share=policy.shares[0], reason="", at=START
        ).release
        asked: dict[tuple[int, str], set[int]] = {}
        judged: dict[tuple[int, str], dict[int, bool]] = {}
        for user in dice.choice(users, size=60_000, p=weights / weights.sum()):
            arm = "challenger" if place[user] < release.share else "champion"
            key = (release.sequence, arm)
            asked.setdefault(key, set()).add(user)
            if not rates[user] or user in judged.setdefault(key, {}):
                continue
            judged[key][user] = dice.random() < (challenger if arm == "challenger" else champion)
            counts = [
                ArmCounts(
                    sequence=sequence,
                    arm=which,  # type: ignore[arg-type]  # one of the two
                    asked=len(who),
                    failed=0,
                    judged=len(judged.get((sequence, which), {})),
                    bad=sum(judged.get((sequence, which), {}).values()),
                )
                for (sequence, which), who in asked.items()
            ]
            verdict = judge_canary(release, counts, policy, START)
            if verdict.step == "advance":
                release = changes.advance(release, share=verdict.share, reason="", at=START).release
            elif verdict.step in ("promote", "roll back"):
                promoted += verdict.step == "promote"
                rolled_back += verdict.step == "roll back"
                break
    return promoted / canaries, rolled_back / canaries


@pytest.mark.parametrize(("champion", "challenger"), [(0.5, 0.2), (0.2, 0.5), (0.3, 0.3)])
def test_canaries_side_by_side_end_as_those_of_single_events_do(champion: float, challenger: float):
    policy = PromoterPolicy(shares=(0.3, 0.5), judged=8, margin=0.3)
    traffic = Traffic(
        champion=champion, challenger=challenger, displeased=(0.2, 0.2), pleased=(0.2, 0.2), conduct=(NOBODY, NOBODY)
    )
    ends = simulate(policy, traffic, canaries=400, seed=5)
    canaries = 30
    single = one_event_after_another(policy, champion, challenger, canaries=canaries)
    for share, end in zip(single, ("promoted", "rolled back"), strict=True):
        low, high = wilson(round(share * canaries), canaries, z=3.3)
        assert low - 1e-9 <= ends.share(end) <= high + 1e-9  # type: ignore[arg-type]  # one of the ends


def test_the_same_seed_gives_the_same_canaries_and_their_number_is_not_rounded():
    first, second = (simulate(DEFAULT, Traffic(challenger=0.6), canaries=1034, seed=3) for _ in range(2))
    assert len(first.ends) == 1034
    assert (first.ends == second.ends).all()
    assert (first.outcomes == second.outcomes).all()


def test_several_cases_at_once_are_each_as_alone():
    cases = usual_cases(0.3, 0.1)
    assert [each.challenger for each in cases] == [0.15, 0.3, 0.4, 0.55]
    better, _, _, much_worse = simulate_cases(DEFAULT, cases, Traffic(), canaries=60)
    assert better.share("promoted") >= 0.95
    assert much_worse.share("rolled back") >= 0.95
    assert usual_cases(0.8, 0.1)[-1].name == "worse by 10%"  # all bad is no case


@pytest.mark.parametrize(
    "conduct",
    [Conduct(failed=0.3), Conduct(declined=0.35), Conduct(asked_back=0.6), Conduct(slower=3.0), Conduct(longer=8.0)],
)
def test_a_challenger_far_beyond_a_guardrail_is_rolled_back_though_it_is_rated_better(conduct: Conduct):
    traffic = Traffic(champion=0.2, challenger=0.15, conduct=(conduct, Conduct()))
    assert simulate(DEFAULT, traffic, canaries=100).share("rolled back") >= 0.97


def test_at_the_limits_of_latency_and_length_the_confidence_holds_however_often_one_looks():
    policy = DEFAULT.model_copy(update={"max_slower": 1.0, "max_longer": 1.0, "max_shorter": 1.0})
    ends = simulate(policy, Traffic(champion=0.1, challenger=0.1), canaries=200, seed=2)
    assert ends.share("rolled back") <= 0.08  # 5 %, and the chance of 200


def test_pleased_raters_hide_a_worse_challenger_and_the_rates_follow_from_the_truth():
    traffic = Traffic.of_truth(champion=0.2, challenger=0.3, displeased=(0.1, 0.1), pleased=(0.5, 0.5))
    assert traffic.champion == pytest.approx(0.02 / 0.42)
    assert traffic.challenger == pytest.approx(0.03 / 0.38)
    assert simulate(DEFAULT, traffic, canaries=100).share("promoted") >= 0.5  # so docs/learning.md warns of it


@pytest.mark.parametrize(
    ("changes", "cell"),
    [
        ({"margin": 0.25}, "a challenger with 15% bad answers against 5% is promoted in "),
        ({"margin": 0.02}, "a challenger as good as a champion with 5% bad answers is promoted in only "),
    ],
)
def test_a_policy_that_contradicts_itself_is_named_with_its_cells(changes: dict[str, float], cell: str):
    found = contradictions(DEFAULT.model_copy(update=changes), champions=(0.05,), canaries=60)
    assert [str(each)[: len(cell)] for each in found] == [cell]


def test_the_default_policy_does_not():
    assert contradictions(DEFAULT, champions=(0.05,), canaries=100) == []


def row(number: int, user: str, outcome: InteractionOutcome, **fields: Any) -> Interaction:
    values: dict[str, Any] = {"answer": "There.", "latency_ms": 900.0, **fields}
    at = START + timedelta(minutes=number)
    return replace(Interaction(answer_id=f"a{number}", task="t", user=user, answered_at=at), outcome=outcome, **values)


def test_a_homes_own_users_are_drawn_in_their_order():
    rows = [row(number, f"u{number}", "approved" if number < 200 else "disapproved") for number in range(400)]
    rows += [row(1000 + number, f"silent{number}", "unrated") for number in range(400)]
    found = recorded(rows[::-1])
    assert found is not None
    assert (found.users, len(found.others.bad), found.raters.bad.mean()) == (400, 400, 0.5)
    assert found.raters.bad[:200].sum() == 0  # the order of time, and not of arrival
    [ends] = simulate_cases(DEFAULT, usual_cases(0.5, 0.1)[1:2], found, canaries=200)
    assert ends.share("rolled back") <= 0.07  # though the quality of both arms falls from 100 to 0 %


def test_a_worse_challenger_on_a_homes_own_users_is_rolled_back():
    dice = np.random.default_rng(1)
    rows = [row(number, f"u{number}", "disapproved" if dice.random() < 0.2 else "approved") for number in range(2000)]
    found = recorded(rows)
    assert found is not None
    cases = usual_cases(0.2, 0.1)
    by_name = dict(zip((each.name for each in cases), simulate_cases(DEFAULT, cases, found, canaries=100), strict=True))
    assert by_name["worse by 25%"].share("rolled back") >= 0.95
    assert by_name["half as bad"].share("promoted") >= 0.9


def test_a_home_with_few_raters_stays_undecided_and_one_without_has_nothing_to_draw_from():
    few = recorded([row(number, f"u{number % 40}", "approved") for number in range(400)])
    assert few is not None
    assert few.users == 40  # each once
    [ends] = simulate_cases(DEFAULT, usual_cases(0.1, 0.1)[1:2], few, canaries=50)
    assert ends.share("undecided") == 1
    assert recorded([row(1, "u", "unrated"), Interaction(answer_id="pending")]) is None
