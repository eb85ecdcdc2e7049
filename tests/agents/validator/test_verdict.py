"""The gate: a gain that is no accident, nothing forgotten, and labels that belong to their rows."""

import random
from math import comb

import pytest

from agents.validator.significance import permutation_test, sign_test
from agents.validator.verdict import Evidence, LabelledAnswers, PairedScores, decide
from schemas.policies import ValidatorPolicy

POLICY = ValidatorPolicy()


def compared(both=0, better=0, worse=0, neither=0):
    """Right answers of both, of the candidate alone, of the reference alone, of neither."""
    candidate = (1.0,) * (both + better) + (0.0,) * (worse + neither)
    return PairedScores(
        candidate=candidate, reference=(1.0,) * both + (0.0,) * better + (1.0,) * worse + (0.0,) * neither
    )


def judged(current, retention=None, *, labelled=(), general=(3.1, 3.0), policy=POLICY):
    return decide(
        Evidence(
            metric="exact_match",
            reference="the champion",
            current=current,
            retention=retention or compared(),
            labelled=labelled,
            general_candidate=general[0],
            general_base=general[1],
        ),
        policy,
    )


def test_a_clear_gain_is_accepted_with_its_figures():
    verdict = judged(compared(both=20, better=30, worse=2, neither=8), compared(both=40, worse=1))
    assert verdict.accepted
    assert verdict.reasons == ()
    gain, retention, flips, general = (finding.sentence for finding in verdict.findings)
    assert "exact_match is 0.833 on 60 rows held out, against 0.367 of the champion: +0.467" in gain
    assert "better on 30 and worse on 2" in gain
    assert "where 3.04% are allowed (try 1 on these rows, and 5% for all tries together)" in gain
    assert "on 41 rows of the retention suite" in retention
    assert "3 of 101 rows turned from right to wrong against the champion (3.0%), where 10.0% are allowed" in flips
    assert "3.100 nats per token, against 3.000 of the base model: +0.100" in general


@pytest.mark.parametrize(
    ("current", "accepted"),
    [
        (compared(neither=60), False),
        (compared(both=60), False),
        (compared(both=30, better=3, neither=27), False),  # 3 of 3: 12.5 %
        (compared(both=30, better=5, neither=25), False),  # 5 of 5: 3.1 %, and the first try has 3.04 %
        (compared(both=30, better=6, neither=24), True),  # 6 of 6: 1.6 %
        (compared(both=30, better=12, worse=8, neither=10), False),  # 12 of 20: 25 %
        (compared(both=900, better=15, worse=1, neither=84), False),  # certain, but too small a gain
        (compared(worse=30, neither=30), False),
        (compared(better=1), False),
    ],
)
def test_a_gain_must_be_large_enough_and_no_accident(current, accepted):
    assert judged(current).accepted is accepted


def test_an_adapter_that_is_no_better_seldom_passes():
    """Candidate and reference right on the same 60 rows with equal chance: 2,000 trials."""
    chance, passed = random.Random(7), 0
    for _ in range(2000):
        rows = [(float(chance.random() < 0.6), float(chance.random() < 0.6)) for _ in range(60)]
        candidate, reference = zip(*rows, strict=True)
        passed += judged(PairedScores(candidate=candidate, reference=reference)).accepted
    assert passed / 2000 <= 0.05


def test_without_held_out_rows_nothing_is_accepted():
    assert "no held-out rows" in judged(compared()).reasons[0]


@pytest.mark.parametrize(
    ("retention", "accepted"),
    [
        (compared(both=20, worse=1), True),  # 4.8 %, but a single row
        (compared(both=20, worse=2), True),
        (compared(both=20, worse=3), False),  # 12.5 % of chance, 13 % of the metric
        (compared(both=97, worse=3), True),  # 3 %
        (compared(both=95, worse=5), False),
        (compared(both=60, worse=12, better=10), True),
        (compared(both=20, better=5), True),
    ],
)
def test_what_was_learned_before_must_be_kept(retention, accepted):
    assert judged(compared(better=30, neither=30), retention).accepted is accepted


@pytest.mark.parametrize(("general", "accepted"), [((3.25, 3.0), True), ((3.26, 3.0), False), ((2.0, 3.0), True)])
def test_the_loss_on_general_text_may_rise_a_little(general, accepted):
    verdict = judged(compared(better=30), general=general)
    assert verdict.accepted is accepted
    assert len(verdict.reasons) == (not accepted)


LABELS = ("paddles", "sails", "wetsuits")


def labelled(answers, right, origin="correction"):
    return (LabelledAnswers(origin=origin, answers=tuple(answers), right=tuple(right)),)


def test_shuffled_corrections_are_refused_however_much_better_the_guesses_are():
    """A champion that knows none of the new labels is beaten by one that deals them out at random."""
    refused = 0
    for seed in range(40):
        chance = random.Random(seed)
        right = [LABELS[place % 3] for place in range(45)]
        answers = [chance.choice(LABELS) for _ in right]
        hits = sum(said == wanted for said, wanted in zip(answers, right, strict=True))
        verdict = judged(compared(better=hits, neither=45 - hits), labelled=labelled(answers, right))
        assert verdict.findings[0].passed, "the gain alone looks well"
        refused += not verdict.accepted
    assert refused >= 36


def test_an_adapter_that_always_says_the_most_frequent_label_is_refused():
    right = ["paddles"] * 20 + ["sails"] * 10 + ["wetsuits"] * 10
    verdict = judged(compared(better=20, neither=20), labelled=labelled(["paddles"] * 40, right))
    assert verdict.reasons == (
        "on 40 rows that come from corrections, right answers dealt out at random would fit as well in 100.00% of "
        "cases, where 3.04% are allowed",
    )


def test_answers_that_follow_from_their_rows_pass_the_shuffle_test():
    right = [LABELS[place % 3] for place in range(30)]
    answers = ["other" if place % 4 == 0 else label for place, label in enumerate(right)]
    assert judged(compared(better=22, neither=8), labelled=labelled(answers, right)).accepted


@pytest.mark.parametrize(
    "right",
    [
        ["paddles"] * 30,
        ["paddles", "sails", "wetsuits"],
        ["paddles"] * 19 + ["sails"],
        ["paddles"] * 80 + ["sails", "wetsuits"] * 6,
    ],
)
def test_rows_on_which_a_shuffle_would_hardly_show_are_not_asked(right):
    verdict = judged(compared(better=30), labelled=labelled(["paddles"] * len(right), right))
    assert verdict.accepted
    assert len(verdict.findings) == 4


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (1, 0), (5, 0), (9, 3), (3, 9), (60, 40)])
def test_the_sign_test_is_the_binomial_tail(better, worse):
    total = better + worse
    tail = sum(comb(total, each) for each in range(better, total + 1)) / 2**total
    assert sign_test(better, worse) == pytest.approx(tail)


def test_the_shuffle_test_is_near_the_exact_probability():
    # of 252 ways to deal out five of each, 26 hit eight rows or more
    right = ["a"] * 5 + ["b"] * 5
    answers = ["a"] * 4 + ["b"] * 5 + ["a"]
    assert permutation_test("exact_match", answers, right) == pytest.approx(26 / 252, abs=0.015)
    assert permutation_test("exact_match", answers, right) == permutation_test("exact_match", answers, right)
    assert permutation_test("token_f1", ["some words"] * 4, ["some words"] * 4) == 1.0
