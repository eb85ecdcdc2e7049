"""Two rates compared: right where it can be checked; the e-value is valid however often one looks at it."""

from __future__ import annotations

import numpy as np
import pytest

from agents.promoter.rates import Rate, e_value_higher, probability_higher


def test_equal_counts_are_as_likely_higher_as_lower():
    assert probability_higher(Rate(3, 10), Rate(3, 10)) == pytest.approx(0.5, abs=0.005)
    assert probability_higher(Rate(0, 0), Rate(0, 0)) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("ours", "theirs", "by"), [((7, 20), (10, 50), 0.05), ((0, 12), (1, 90), 0.0), ((9, 9), (2, 5), 0.2)]
)
def test_the_probability_is_that_of_draws_from_the_posteriors(ours, theirs, by):
    generator = np.random.default_rng(1)
    draws = [generator.beta(hits + 0.5, of - hits + 0.5, 200_000) for hits, of in (ours, theirs)]
    assert probability_higher(Rate(*ours), Rate(*theirs), by) == pytest.approx(
        (draws[0] > draws[1] + by).mean(), abs=0.006
    )


def test_a_wider_margin_is_exceeded_less_likely():
    probabilities = [probability_higher(Rate(9, 20), Rate(5, 20), by) for by in (0.0, 0.05, 0.2, 0.9)]
    assert probabilities == sorted(probabilities, reverse=True)
    assert probabilities[-1] < 0.01


def test_rates_grows_with_counts_and_is_none_for_what_is_not_higher():
    assert e_value_higher(Rate(3, 10), Rate(3, 10)) == e_value_higher(Rate(1, 10), Rate(30, 100)) == 0.0
    assert e_value_higher(Rate(5, 5), Rate(0, 0)) == 0.0
    grown = [e_value_higher(Rate(6 * times, 10 * times), Rate(4 * times, 20 * times)) for times in (1, 3, 10)]
    assert grown == sorted(grown)
    assert grown[-1] > 1e6
    assert e_value_higher(Rate(10_000, 10_000), Rate(0, 10_000)) > 1e300


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_rates_of_equal_rates_seldom_ever_reaches_20_though_it_is_looked_at_all_the_time(rate):
    generator = np.random.default_rng(2)
    alarms = 0
    for _ in range(60):
        ours, theirs = (generator.random((2, 120)) < rate).cumsum(axis=1)
        looks = range(3, 120, 4)
        alarms += any(e_value_higher(Rate(int(ours[n]), n + 1), Rate(int(theirs[n]), n + 1)) >= 20 for n in looks)
    assert alarms <= 3  # 5 % of 60
