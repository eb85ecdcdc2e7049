"""Each statistical test alone: how often it is wrong without drift and right with drift, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from agents.monitor.differences import (
    Difference,
    greatest_similarity,
    kinds_differ,
    questions_differ,
    rate_rose,
    rejected,
    splits_for,
    used_rows,
    values_fell,
)

SPLITS = 199
TRIALS = 300
Trial = Callable[[np.random.Generator, float], Difference]


def questions(random: np.random.Generator, drift: float) -> Difference:
    rows = random.normal(size=(80, 8))
    rows[50:][random.random(30) < drift, 0] += 5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    units = rows.astype(np.float32)
    return questions_differ(units[:50], units[50:], SPLITS)


def rates(random: np.random.Generator, drift: float) -> Difference:
    return rate_rose((int(random.binomial(60, 0.2)), 60), (int(random.binomial(40, 0.2 + 0.7 * drift)), 40))


def kinds(random: np.random.Generator, drift: float) -> Difference:
    before = random.choice(["a", "b", "c", "d"], 60)
    now = np.where(random.random(40) < drift, "e", random.choice(["a", "b", "c", "d"], 40))
    return kinds_differ(before.tolist(), now.tolist(), SPLITS)


def values(random: np.random.Generator, drift: float) -> Difference:
    now = random.normal(size=40) - 4 * (random.random(40) < drift)
    return values_fell(random.normal(size=60).round(1).tolist(), now.round(1).tolist(), SPLITS)


@pytest.mark.parametrize("trial", [questions, rates, kinds, values])
def test_without_drift_p_is_at_most_a_in_no_more_than_a_part_a_of_trials(trial: Trial):
    random = np.random.default_rng(5)
    p_values = np.array([trial(random, 0.0).p_value for _ in range(TRIALS)])
    for a in (0.01, 0.05, 0.2):
        assert (p_values <= a).mean() <= a + 2.6 * np.sqrt(a * (1 - a) / TRIALS)


@pytest.mark.parametrize("trial", [questions, rates, kinds, values])
def test_drift_of_half_of_the_rows_is_nearly_always_found(trial: Trial):
    random = np.random.default_rng(6)
    assert np.mean([trial(random, 0.5).p_value <= 0.01 for _ in range(40)]) >= 0.9


def test_one_sided_tests_do_not_mind_what_got_better():
    assert rate_rose((30, 60), (2, 40)).p_value > 0.99
    assert values_fell([0.1] * 30, [0.9] * 30, SPLITS).p_value == 1.0


def test_windows_without_anything_to_compare_do_not_differ():
    nothing = Difference(p_value=1.0, effect=0.0)
    assert rate_rose((0, 0), (5, 5)) == rate_rose((0, 9), (0, 0)) == nothing
    assert kinds_differ([], ["a"], SPLITS) == values_fell([1.0], [], SPLITS) == nothing
    same = np.ones((30, 4), dtype=np.float32)
    assert questions_differ(same, same[:20], SPLITS) == nothing


def test_effects_say_how_large_a_difference_is():
    assert rate_rose((10, 100), (20, 50)).effect == pytest.approx(0.3)
    assert kinds_differ(["a"] * 10, ["a"] * 5 + ["b"] * 5, SPLITS).effect == pytest.approx(0.5)
    assert values_fell([0.8] * 9, [0.3] * 9, SPLITS).effect == pytest.approx(0.5)


def test_the_same_rows_always_give_the_same_p_value():
    random = np.random.default_rng(1)
    rows = random.normal(size=(60, 8)).astype(np.float32)
    assert questions_differ(rows[:40], rows[40:], SPLITS) == questions_differ(rows[:40], rows[40:], SPLITS)


def test_the_most_similar_reference_question_counts():
    reference = np.eye(3, dtype=np.float32)
    current = np.array([[1, 0, 0], [0.6, 0.8, 0]], dtype=np.float32)
    assert greatest_similarity(reference, current) == pytest.approx([1.0, 0.8])


def test_holm_rejects_step_by_step():
    assert rejected([0.04, 0.001, 0.02], 0.05) == [True, True, True]
    assert rejected([0.04, 0.03, 0.02], 0.05) == [False, False, False]
    assert rejected([], 0.05) == []


def test_there_are_enough_splits_for_holms_first_step():
    for alpha in (0.5, 0.05, 0.01, 0.001):
        assert 1 / (1 + splits_for(alpha)) <= alpha / 5


def test_ten_thousand_rows_take_no_longer_than_a_thousand():
    random = np.random.default_rng(2)
    rows = random.normal(size=(10_000, 384)).astype(np.float32)
    begun = time.process_time()
    questions_differ(rows[:8000], rows[8000:], splits_for(0.01))
    values_fell(rows[:8000, 0].tolist(), rows[8000:, 0].tolist(), splits_for(0.01))
    assert time.process_time() - begun < 6  # processor seconds, of all threads


def test_similarities_are_those_of_all_pairs_however_many_there_are():
    random = np.random.default_rng(3)
    reference, current = (random.normal(size=(rows, 4)).astype(np.float32) for rows in (3000, 2000))
    found = greatest_similarity(reference, current)
    np.testing.assert_allclose(found, (current @ reference.T).max(axis=1), rtol=1e-6)


def test_rows_are_used_from_the_first_to_the_last_and_none_twice():
    assert used_rows(3, 5) == [0, 1, 2]
    some = used_rows(5001, 1000)
    assert (len(some), some[0], some[-1]) == (1000, 0, 5000)
    assert some == sorted(set(some))
