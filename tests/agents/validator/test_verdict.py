"""The gate: a gain that is no accident, nothing forgotten, and labels that belong to their rows."""

import random
from math import comb

import pytest

from agents.validator.significance import drop_test, level_of_try, permutation_test, share_test, sign_test
from agents.validator.slices import Slice
from agents.validator.verdict import Evidence, LabelledAnswers, PairedScores, decide
from schemas.policies import ValidatorPolicy

POLICY = ValidatorPolicy()


def compared(both=0, better=0, worse=0, neither=0):
    """Right answers of both, of the candidate alone, of the reference alone, of neither."""
    candidate = (1.0,) * (both + better) + (0.0,) * (worse + neither)
    return PairedScores(
        candidate=candidate, reference=(1.0,) * both + (0.0,) * better + (1.0,) * worse + (0.0,) * neither
    )


def judged(current, retention=None, *, labelled=(), general=(3.1, 3.0), policy=POLICY, **measured):
    return decide(
        Evidence(
            metric="exact_match",
            reference="the champion",
            current=current,
            retention=retention or compared(),
            labelled=labelled,
            general_candidate=general[0],
            general_base=general[1],
            **measured,
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


def test_a_base_model_whose_loss_is_no_number_is_said_to_be_the_reason():
    (reason,) = judged(compared(better=30), general=(3.0, float("nan"))).reasons
    assert "the base model's loss on general text is no number" in reason


@pytest.mark.parametrize(("tries", "accepted"), [(1, True), (2, True), (3, False)])
def test_each_further_candidate_on_the_same_rows_must_be_more_certainly_better(tries, accepted):
    verdict = judged(compared(both=30, better=8, neither=22), tries=tries)  # 8 of 8: 0.39 %
    assert verdict.accepted is accepted
    assert f"(try {tries} on these rows, and 5% for all tries together)" in verdict.findings[0].sentence


def test_rows_too_few_for_any_adapter_to_pass_are_said_to_be_too_few():
    (reason,) = judged(compared(better=5)).reasons
    assert reason.endswith("no adapter can be better on so few rows: at least 6 must be held out")
    assert judged(compared(better=6)).accepted


def test_rows_with_a_single_right_answer_prove_nothing():
    (reason,) = judged(compared(better=30), right=frozenset({"sails"})).reasons
    assert reason.startswith("the right answer of all 30 rows is 'sails': an adapter that says nothing else")
    assert judged(compared(better=30), right=frozenset({"sails", "paddles"})).accepted


@pytest.mark.parametrize(
    ("golden", "accepted"),
    [
        (compared(both=10), True),
        (compared(both=10, worse=2), True),  # 25 %
        (compared(both=10, worse=3), False),  # 12.5 %
        (compared(both=10, worse=3, better=1), True),
        (compared(both=10, better=3), True),
    ],
)
def test_the_golden_set_must_not_be_answered_worse(golden, accepted):
    verdict = judged(compared(better=30, neither=30), golden=golden)
    assert verdict.accepted is accepted
    assert f"{golden.rows} rows of the golden set" in verdict.findings[2].sentence


@pytest.mark.parametrize(
    ("current", "accepted"),
    [
        (compared(better=60, worse=10, neither=30), True),  # 10 %
        (compared(better=60, worse=12, neither=28), True),  # 12 %, by chance in 30 % of cases
        (compared(better=60, worse=15, neither=25), False),
        (compared(better=20, worse=2), True),
    ],
)
def test_a_gain_elsewhere_does_not_make_good_for_right_answers_that_turned_wrong(current, accepted):
    verdict = judged(current)
    assert verdict.accepted is accepted
    assert any(
        f"{current.worse} of {current.rows} rows turned from right to wrong" in f.sentence for f in verdict.findings
    )


def test_flips_are_counted_on_all_judged_rows_and_by_right_and_wrong_answers():
    kept = compared(both=10, worse=1)
    sentence = judged(compared(better=30), kept, golden=compared(both=9, worse=1)).findings[3].sentence
    assert "2 of 51 rows turned" in sentence
    assert PairedScores(candidate=(0.6, 0.4, 0.4), reference=(1.0, 0.5, 0.4)).flips == 1


def sliced(*sizes):
    edges = [sum(sizes[:place]) for place in range(len(sizes) + 1)]
    return tuple(
        Slice(kind="tenant", name=f"t{place}", places=tuple(range(*edges[place : place + 2])))
        for place in range(len(sizes))
    )


def test_a_slice_that_falls_is_found_below_a_gain_of_the_whole():
    rows = compared(worse=15, both=25, better=80, neither=30)  # t0: the first 15 of the reference's right ones
    order = [*range(105, 120), *range(25), *range(25, 105), *range(120, 150)]
    current = rows.at(order)
    policy = ValidatorPolicy(max_flips=0.5)
    verdict = judged(current, slices=sliced(40, 80, 30), policy=policy)
    assert verdict.reasons == (
        "exact_match is 0.625 on 40 rows of the tenant 't0', against 1.000 of the champion: -0.375, where -0.100 is "
        "allowed to each of 3 slices",
    )
    assert judged(current, slices=sliced(29, 29), policy=policy).accepted, "too small"
    (*_, told, _) = judged(compared(better=80), slices=sliced(40, 40)).findings
    assert told.sentence.startswith("none of 2 slices by label, tenant and length is worse by more than 0.100")


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


def test_the_levels_of_a_hundred_tries_add_up_to_less_than_the_chance():
    levels = [level_of_try(0.05, number) for number in range(1, 101)]
    assert levels == sorted(levels, reverse=True)
    assert sum(levels) < 0.05
    assert levels[0] == pytest.approx(0.0304, abs=1e-4)


@pytest.mark.parametrize(("count", "rows", "share"), [(0, 30, 0.1), (5, 30, 0.1), (30, 30, 0.1), (1, 9, 0.0)])
def test_the_share_test_is_the_binomial_tail(count, rows, share):
    tail = sum(comb(rows, each) * share**each * (1 - share) ** (rows - each) for each in range(count, rows + 1))
    assert share_test(count, rows, share) == pytest.approx(tail)


def test_a_drop_by_what_is_allowed_is_seldom_called_larger():
    """Of 40 rows each falls with a chance of 10 %, or 30 % fall and 20 % rise: 2,000 trials of each at 4 %."""
    chance = random.Random(5)
    for falls, rises in ((0.1, 0.0), (0.3, 0.2)):
        found = 0
        for _ in range(2000):
            rows = [chance.random() for _ in range(40)]
            candidate = [0.0 if each < falls else 1.0 if each < falls + rises else 0.5 for each in rows]
            reference = [1.0 if each < falls else 0.0 if each < falls + rises else 0.5 for each in rows]
            found += drop_test(candidate, reference, 0.1) <= 0.04
        assert found / 2000 <= 0.055
    assert drop_test([0.0] * 30, [1.0] * 30, 0.1) == 0.0
    assert drop_test([1.0] * 30, [1.0] * 30, 0.0) == 1.0
    assert drop_test([0.4] * 30, [0.5] * 30, 0.1) == 1.0


def test_answers_that_follow_from_their_rows_pass_the_shuffle_test_at_a_late_try():
    right = [LABELS[place % 3] for place in range(60)]
    assert judged(compared(better=60), labelled=labelled(right, right), tries=30).accepted
    few = [LABELS[place % 3] for place in range(9)]
    found = judged(compared(better=60), labelled=labelled(few, few), tries=30)
    assert found.accepted, "on few rows perfect answers are as much as can be asked for"
