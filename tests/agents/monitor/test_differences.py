"""Each statistical test alone: how often it is wrong without drift and right with drift, and who counts how much."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from agents.monitor.differences import (
    LEAST,
    NOTHING,
    UNSEEN,
    Asked,
    Difference,
    mix_changed,
    nearest,
    novel,
    novelty,
    rose,
    strata,
    used_rows,
)

REFERENCE, CURRENT = 200, 160
ROWS = REFERENCE + CURRENT
TRIALS = 300
HOUR, DAY = 3600.0, 86_400.0
Trial = Callable[[np.random.Generator, float], Difference]


def asked(units: np.ndarray, texts: np.ndarray | None = None, **changes) -> Asked:
    fields = {
        "units": units,
        "texts": np.arange(len(units)) if texts is None else texts,
        "strata": np.zeros(len(units), dtype=np.int64),
        "reference_rows": REFERENCE,
        "shortest": CURRENT // 4,
        "longest": CURRENT,
    }
    return Asked(**{**fields, **changes})


def sessions(random: np.random.Generator) -> np.ndarray:
    """Eighty users, who come for one to ten questions in a row, some of them more often than others."""
    users = random.choice(80, ROWS, p=np.arange(80, 0, -1) / 3240)
    return np.repeat(users, random.integers(1, 11, ROWS))[:ROWS]


def rates(random: np.random.Generator, drift: float) -> Difference:
    units = sessions(random)
    values = random.random(ROWS) < np.clip(random.normal(0.25, 0.15, 80), 0, 1)[units]
    values[REFERENCE:] |= random.random(CURRENT) < drift
    return rose(values.astype(np.float64), asked(units), ROWS)


def kinds(random: np.random.Generator, drift: float) -> Difference:
    units = sessions(random)
    own = random.integers(0, 4, 80)
    labels = np.where(random.random(ROWS) < 0.5, own[units], random.integers(0, 4, ROWS))
    labels[REFERENCE:][random.random(CURRENT) < drift] = 4
    return mix_changed(labels, asked(units), ROWS)


def questions(random: np.random.Generator, drift: float) -> Difference:
    units = sessions(random)
    own = random.normal(size=(80, 8))
    rows = own[units] + 2 * random.normal(size=(6, 8))[random.integers(0, 6, ROWS)] + random.normal(size=(ROWS, 8)) / 3
    rows[REFERENCE:][random.random(CURRENT) < drift] = random.normal(size=8) * 0.1 + np.eye(8)[0] * 9
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    similarity = nearest(vectors, units, REFERENCE)
    return rose(novelty(similarity, REFERENCE), asked(units), ROWS)


@pytest.mark.parametrize("trial", [rates, kinds, questions])
def test_without_drift_p_is_at_most_a_in_no_more_than_a_part_a_of_trials(trial: Trial):
    random = np.random.default_rng(5)
    p_values = np.array([trial(random, 0.0).p_value for _ in range(TRIALS)])
    for a in (0.01, 0.05, 0.2):
        assert (p_values <= a).mean() <= a + 2.6 * np.sqrt(a * (1 - a) / TRIALS)


@pytest.mark.parametrize("trial", [rates, kinds, questions])
def test_drift_of_half_of_the_rows_is_nearly_always_found(trial: Trial):
    random = np.random.default_rng(6)
    assert np.mean([trial(random, 0.5).p_value <= 0.01 for _ in range(40)]) >= 0.9


def test_one_person_and_five_people_are_not_enough_whatever_they_ask():
    bad = np.where(np.arange(ROWS) < REFERENCE, 0.0, 1.0)
    for people in (1, 5):
        units = np.concatenate([np.arange(REFERENCE), REFERENCE + np.arange(CURRENT) % people])
        assert rose(bad, asked(units), ROWS).p_value == 1.0
    assert rose(bad, asked(np.arange(ROWS)), ROWS).p_value < 1e-6


def test_what_somebody_asks_again_counts_once():
    random = np.random.default_rng(1)
    units, values = np.arange(ROWS), (random.random(ROWS) < 0.3).astype(np.float64)
    values[REFERENCE:] = random.random(CURRENT) < 0.6
    once = rose(values, asked(units, shortest=CURRENT), ROWS)
    loud = np.flatnonzero(values[REFERENCE:])[0] + REFERENCE
    again = np.concatenate([np.arange(ROWS), np.full(CURRENT, loud)])
    twice = rose(values[again], asked(units[again], again, shortest=2 * CURRENT, longest=2 * CURRENT), len(again))
    assert (twice.p_value, twice.effect) == pytest.approx((once.p_value, once.effect))


def test_the_evening_is_compared_with_the_evening():
    evening = np.arange(ROWS) % 4 == 0
    evening[REFERENCE:] = np.arange(CURRENT) % 4 != 0
    values = evening.astype(np.float64)  # people in the evening are never satisfied
    by_day = asked(np.arange(ROWS), strata=evening.astype(np.int64), shortest=CURRENT)
    assert rose(values, by_day, ROWS).effect == pytest.approx(0.0)
    assert rose(values, asked(np.arange(ROWS), shortest=CURRENT), ROWS).effect == pytest.approx(0.5)


def test_hours_that_the_reference_has_not_seen_are_not_compared():
    values = np.concatenate([np.zeros(REFERENCE), np.ones(CURRENT)])
    unseen = np.where(np.arange(ROWS) < REFERENCE, 0, UNSEEN)
    assert rose(values, asked(np.arange(ROWS), strata=unseen), ROWS).p_value == 1.0


def test_the_strata_are_parts_of_working_days_and_weekends():
    day = np.arange(0, DAY, HOUR / 4)
    times = np.concatenate([day, day + DAY, day + 5 * DAY])
    found = strata(times, len(day))
    assert found[: len(day)].tolist() == found[len(day) : 2 * len(day)].tolist()
    assert sorted(set(found[: len(day)].tolist())) == [0, 1, 2, 3, 4, 5]
    assert set(found[2 * len(day) :].tolist()) == {UNSEEN}


def test_an_hour_is_unseen_though_its_part_of_the_day_is_not():
    times = np.concatenate([np.linspace(8 * HOUR, 10 * HOUR - 1, 50), DAY + np.array([8.5, 9.5, 10.5]) * HOUR])
    assert strata(times, 50)[50:].tolist() == [2, 2, UNSEEN]


def test_after_a_reference_of_minutes_the_next_hour_counts_as_seen():
    midnight = 5 * DAY  # from Friday to Saturday
    times = np.concatenate([np.linspace(midnight - 600, midnight - 60, 50), midnight + np.array([60, 3000, 4000])])
    assert strata(times, 50)[50:].tolist() == [5, 5, UNSEEN]


def test_somebodys_own_topic_is_as_novel_before_as_after():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 1, 2, 0, 1, 3]]
    units = np.array([0, 1, 2, 3, 0, 4, 4])
    assert nearest(vectors, units, 4).tolist() == [0, 1, 1, 0, 0, 1, 0]
    alone = nearest(vectors, np.zeros(7, dtype=np.int64), 4)
    assert alone.tolist() == [-2.0] * 7
    assert not novel(novelty(alone, 4)).any()


def test_novelty_is_the_squared_share_of_the_reference_that_is_nearer():
    similarity = np.concatenate([np.linspace(0.1, 1.0, 100), [0.05, 0.55, 2.0]]).astype(np.float32)
    assert novelty(similarity, 100)[100:] == pytest.approx([1.0, 0.25, 0.0], abs=0.02)
    assert novelty(similarity, 100)[:100].mean() == pytest.approx(1 / 3, abs=0.01)
    assert novel(novelty(similarity, 100)).nonzero()[0].tolist() == [0, 1, 2, 3, 4, 100]


def test_similarities_are_those_of_all_pairs_however_many_there_are():
    random = np.random.default_rng(3)
    vectors = random.normal(size=(5000, 4)).astype(np.float32)
    found = nearest(vectors, np.arange(5000), 2000)
    np.testing.assert_allclose(found[2000:], (vectors[2000:] @ vectors[:2000].T).max(axis=1), rtol=1e-6)


def test_windows_double_as_far_as_there_are_rows():
    some = asked(np.arange(ROWS), shortest=20, longest=1000)
    assert some.looks(ROWS) == [ROWS - 20, ROWS - 40, ROWS - 80, ROWS - 160]
    assert some.looks(REFERENCE + 30) == [REFERENCE + 10]
    assert some.looks(REFERENCE + 10) == []


def test_a_late_change_is_found_in_the_window_that_begins_with_it():
    values = (np.arange(ROWS) % 10 == 0).astype(np.float64)
    values[-40:] = 1.0
    found = rose(values, asked(np.arange(ROWS)), ROWS)
    assert found.rows == 40
    assert found.effect == pytest.approx(0.9)


def test_one_sided_tests_do_not_mind_what_got_better():
    values = np.concatenate([np.ones(REFERENCE), np.zeros(CURRENT)])
    assert rose(values, asked(np.arange(ROWS)), ROWS).p_value == 1.0
    assert rose(-values, asked(np.arange(ROWS)), ROWS).p_value < 1e-6


def test_a_certain_difference_may_be_too_small_to_matter():
    values = np.linspace(0, LEAST / 4, ROWS)
    assert rose(values, asked(np.arange(ROWS)), ROWS).p_value == 1.0
    assert rose(values, asked(np.arange(ROWS)), ROWS, least=0.0).p_value < 1e-6


def test_windows_without_anything_to_compare_do_not_differ():
    nothing = np.full(ROWS, np.nan)
    units = np.arange(ROWS)
    assert rose(nothing, asked(units), ROWS).p_value == 1.0
    only_before = np.where(np.arange(ROWS) < REFERENCE, 1.0, np.nan)
    assert rose(only_before, asked(units), ROWS).p_value == 1.0
    assert rose(np.ones(ROWS), asked(units), ROWS).p_value == 1.0
    assert mix_changed(np.full(ROWS, -1), asked(units), ROWS) == NOTHING
    assert mix_changed(np.zeros(ROWS, dtype=np.int64), asked(units), ROWS) == NOTHING


def test_rows_are_used_from_the_first_to_the_last_and_none_twice():
    assert used_rows(3, 5) == [0, 1, 2]
    some = used_rows(5001, 1000)
    assert (len(some), some[0], some[-1]) == (1000, 0, 5000)
    assert some == sorted(set(some))
