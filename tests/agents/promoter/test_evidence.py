"""The weights of evidence: against a plain computation, at their limits, and by how often they deceive."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy

from agents.promoter import evidence


def strata(*rows: tuple[float, float, float, float]) -> evidence.Counts:
    return np.array(rows, dtype=float)


def best(bad: float, of: float, their_bad: float, theirs: float, margin: float) -> float:
    """The highest log-likelihood with the challenger's rate the margin above, by a search."""

    def loss(p: float) -> float:
        q = p + margin
        return -float(xlogy(bad, q) + xlogy(of - bad, 1 - q) + xlogy(their_bad, p) + xlogy(theirs - their_bad, 1 - p))

    return -float(minimize_scalar(loss, bounds=(0.0, 1 - margin), method="bounded", options={"xatol": 1e-10}).fun)


@pytest.mark.parametrize(
    "row", [(3, 30, 8, 80), (0, 12, 0, 40), (12, 12, 40, 40), (5.5, 20, 3, 200), (29, 30, 1, 30), (0, 0, 3, 9)]
)
def test_the_constrained_likelihood_is_the_highest(row: tuple[float, float, float, float]):
    found = evidence._at_margin(strata(row), 0.1)[0]
    assert found == pytest.approx(best(*row, margin=0.1), abs=1e-6)


def test_without_outcomes_there_is_no_evidence():
    nothing = strata((0, 0, 0, 0))
    weights = (
        evidence.worse(nothing),
        evidence.better(nothing),
        evidence.not_worse(nothing, 0.1)[0],
        evidence.worse_than(nothing, 0.1),
    )
    assert weights == pytest.approx((0, 0, 0, 0), abs=1e-9)


def test_evidence_grows_with_what_supports_it():
    few, many = strata((6, 12, 6, 60)), strata((60, 120, 60, 600))
    assert 2 < evidence.worse(few) < evidence.worse(many)
    assert evidence.better(many) < -10
    assert evidence.not_worse(many, 0.1)[0] < -10
    good = strata((10, 200, 10, 200))
    assert evidence.not_worse(good, 0.1)[0] > 3
    assert evidence.not_worse(good, 0.02)[0] < 1  # a small margin takes more outcomes


def test_a_stratum_that_is_empty_changes_no_margin():
    one = strata((10, 200, 10, 200))
    two = strata((10, 200, 10, 200), (0, 0, 0, 0))
    assert evidence.not_worse(two, 0.1).sum() == pytest.approx(evidence.not_worse(one, 0.1).sum())


def test_many_are_weighed_at_once_as_each_alone():
    dice = np.random.default_rng(1)
    of = dice.integers(1, 200, (50, 2, 2))
    bad = dice.binomial(of, 0.3)
    counts = np.stack([bad[..., 0], of[..., 0], bad[..., 1], of[..., 1]], axis=-1).astype(float)
    for weigh in (evidence.worse, evidence.better, lambda some: evidence.worse_than(some, 0.1)):
        assert weigh(counts) == pytest.approx(np.array([weigh(each) for each in counts]))


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_equal_arms_look_worse_with_a_confidence_of_95_percent_at_most_in_one_of_twenty(rate: float):
    dice = np.random.default_rng(7)
    shape = (400, 300)
    ours, theirs = (np.cumsum(dice.random(shape) < rate, axis=1) for _ in range(2))
    of = np.broadcast_to(np.arange(1, 301), shape)
    counts = np.stack([ours, of, theirs, of], axis=-1)[..., None, :].astype(float)
    ever = (evidence.worse(counts) >= np.log(20)).any(axis=1)
    assert ever.mean() <= 0.07  # five of a hundred, and the chance of 400
