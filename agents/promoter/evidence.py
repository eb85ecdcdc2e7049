"""Weighs, from two arms' outcomes, whether the challenger is worse, is not worse by the margin, or is better.

Each weight is the logarithm of a Bayes factor. It grows without end where its hypothesis is true. Where the other one
is true, the probability that it ever exceeds log(1 / a) is about a, however often one looks: the simulations of
``agents/promoter/simulation.py`` confirm it, also for rates near 0.

Outcomes are compared within *strata*, such as the stages of a canary, because the rates of both arms may move from one
to the next. The weights of the strata are added.

All functions take counts as arrays of shape (..., strata, 4): the challenger's bad outcomes and all of its outcomes,
the champion's bad ones and all of its. Counts may be fractions: a user half of whose ratings are bad counts as half.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

Counts = NDArray[np.float64]
Weights = NDArray[np.float64]

_EFFECTS = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0])
"""Differences of the log-odds that count as worse or better."""
_SPREAD = 1.5
"""The standard deviation of the half-normal prior over them."""
_PRIOR = np.exp(-0.5 * (_EFFECTS / _SPREAD) ** 2) * np.gradient(_EFFECTS)
_LOG_PRIOR = np.log(_PRIOR / _PRIOR.sum())
_LOG_HALF = np.log(0.5)


def differs(counts: Counts) -> Weights:
    """Bounds the weights: no weight of "worse" is above the sum over the strata of what is positive here, and none of
    "better" above that of what is negative. Shape (..., strata). It costs a tenth of a weight.

    The value is the log-likelihood ratio of two free rates and of one, negative where the challenger's is lower.
    """
    ours_bad, ours, theirs_bad, theirs = (counts[..., each] for each in range(4))
    q, p = _ratio(ours_bad, ours), _ratio(theirs_bad, theirs)
    free = _log_likelihood(ours_bad, ours, q) + _log_likelihood(theirs_bad, theirs, p)
    return np.asarray(np.where(q < p, -1.0, 1.0) * np.maximum(free - _equal(counts), 0.0))


def worse(counts: Counts) -> Weights:
    """Weighs "the challenger has more bad outcomes" against "both arms have equally many". Shape (...)."""
    return _ever_since(_mixed(counts, _EFFECTS) - _equal(counts)[..., None])


def better(counts: Counts) -> Weights:
    """Weighs "the challenger has fewer bad outcomes" against "both arms have equally many". Shape (...)."""
    total = (_mixed(counts, -_EFFECTS) - _equal(counts)[..., None]).sum(axis=-2)
    return _log_sum(total + _LOG_PRIOR)


def not_worse(counts: Counts, margin: float) -> Weights:
    """Weighs "equally many bad outcomes, or fewer" against "more by the margin or above". Shape (..., strata).

    The weights of the strata are apart: their sum is the weight of all.
    """
    beyond, _ = _around_margin(counts, margin)
    fewer = _log_sum(_mixed(counts, -_EFFECTS) + _LOG_PRIOR)
    return np.asarray(np.logaddexp(_equal(counts), fewer) + _LOG_HALF - beyond)


def worse_than(counts: Counts, margin: float) -> Weights:
    """Weighs "more bad outcomes by more than the margin" against "more by the margin or less". Shape (...)."""
    _, within = _around_margin(counts, margin)
    return _ever_since(_mixed(counts, _EFFECTS) - within[..., None])


def _ever_since(gains: Weights) -> Weights:
    """Averages the weight of all strata and that of the last one alone, because a challenger may turn bad late."""
    together = _log_sum(gains.sum(axis=-2) + _LOG_PRIOR)
    alone = _log_sum(gains[..., -1, :] + _LOG_PRIOR)
    return np.asarray(np.logaddexp(together, alone) + _LOG_HALF)


def _equal(counts: Counts) -> Weights:
    """Returns the highest log-likelihood of one rate for both arms. Shape (..., strata)."""
    bad, of = counts[..., 0] + counts[..., 2], counts[..., 1] + counts[..., 3]
    return _log_likelihood(bad, of, _ratio(bad, of))


def _mixed(counts: Counts, effects: Weights) -> Weights:
    """Returns the highest log-likelihood of each difference of log-odds. Shape (..., strata, effects)."""
    ours_bad, ours, theirs_bad, theirs = (counts[..., each, None] for each in range(4))
    odds = np.exp(effects)
    bad = ours_bad + theirs_bad
    # The champion's rate p is where as many outcomes are expected to be bad as were: ours * q + theirs * p = bad,
    # with q / (1 - q) = odds * p / (1 - p). This is a quadratic equation of p.
    linear = theirs + odds * ours - (odds - 1) * bad
    p = _ratio(2 * bad, linear + np.sqrt(np.maximum(linear**2 + 4 * theirs * (odds - 1) * bad, 0.0)))
    p = np.clip(p, 0.0, 1.0)
    q = odds * p / (1 - p + odds * p)
    return _log_likelihood(ours_bad, ours, q) + _log_likelihood(theirs_bad, theirs, p)


def _around_margin(counts: Counts, margin: float) -> tuple[Weights, Weights]:
    """Returns the highest log-likelihoods where the challenger's rate is above the champion's by the margin or more,
    and by the margin or less. Shape (..., strata).
    """
    ours_bad, ours, theirs_bad, theirs = (counts[..., each] for each in range(4))
    p, q = _ratio(theirs_bad, theirs), _ratio(ours_bad, ours)
    free = _log_likelihood(ours_bad, ours, q) + _log_likelihood(theirs_bad, theirs, p)
    at_margin = _at_margin(counts, margin)
    return np.where(q - p >= margin, free, at_margin), np.where(q - p <= margin, free, at_margin)


def _at_margin(counts: Counts, margin: float) -> Weights:
    """Returns the highest log-likelihood where the challenger's rate is the margin above. Shape (..., strata)."""
    ours_bad, ours, theirs_bad, theirs = (counts[..., each] for each in range(4))
    bad, of = ours_bad + theirs_bad, np.maximum(ours + theirs, 1.0)
    # The slope of the log-likelihood is zero at a root of a cubic equation of the champion's rate (Miettinen and
    # Nurminen, Statistics in Medicine 1985), divided by its first coefficient here.
    square = ((ours + 2 * theirs) * margin - of - bad) / of
    linear = ((theirs * margin - of - 2 * theirs_bad) * margin + bad) / of
    constant = theirs_bad * margin * (1 - margin) / of
    third = square / 3
    shifted = third**3 - linear * third / 2 + constant / 2
    radius = np.where(shifted < 0, -1.0, 1.0) * np.sqrt(np.maximum(third**2 - linear / 3, 1e-30))
    angle = (np.pi + np.arccos(np.clip(shifted / radius**3, -1.0, 1.0))) / 3
    p = np.clip(2 * radius * np.cos(angle) - third, 0.0, 1.0 - margin)
    return _log_likelihood(ours_bad, ours, p + margin) + _log_likelihood(theirs_bad, theirs, p)


def _log_sum(weights: Weights) -> Weights:
    """Returns log(sum(exp(weights))) over the last axis."""
    highest = weights.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(weights - highest).sum(axis=-1)) + highest[..., 0])


def _log_likelihood(bad: Counts, of: Counts, rate: Counts) -> Weights:
    return np.asarray(xlogy(bad, rate) + xlogy(of - bad, 1 - rate))


def _ratio(numerator: Counts, denominator: Counts) -> Counts:
    """Returns 0 where nothing was counted."""
    shape = np.broadcast(numerator, denominator).shape
    return np.divide(numerator, denominator, out=np.zeros(shape), where=denominator > 0)
