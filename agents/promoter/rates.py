"""Compares two rates: the probability that one is higher, and an e-value that may be computed after every answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, betaln, xlogy

_PRIOR = 0.5
"""Both parameters of the Beta prior (Jeffreys' prior). It has little influence, also near rates of 0 and 1."""
_POINTS = (np.arange(128) + 0.5) / 128


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``of`` cases."""

    hits: int
    of: int

    @property
    def mean(self) -> float:
        """The mean of the posterior."""
        return (self.hits + _PRIOR) / (self.of + 2 * _PRIOR)

    def __str__(self) -> str:
        return f"{self.hits} of {self.of}" + (f" ({self.hits / self.of:.0%})" if self.of else "")


def probability_higher(ours: Rate, theirs: Rate, by: float = 0.0) -> float:
    """Returns the posterior probability that our rate is more than ``by`` above theirs, to about 0.002."""
    below = betainc(theirs.hits + _PRIOR, theirs.of - theirs.hits + _PRIOR, np.clip(_quantiles(ours) - by, 0.0, 1.0))
    return float(below.mean())


def e_value_higher(ours: Rate, theirs: Rate) -> float:
    """Returns an e-value against "our rate is not above theirs"; it is valid however often one computes it.

    If the rates are equal, or ours is lower, the probability that it ever reaches x is at most 1/x (Ville's
    inequality). It divides the likelihood, mixed over the Beta prior where our rate is higher, by the maximum of the
    likelihood where it is not: universal inference (Wasserman, Ramdas and Balakrishnan, PNAS 2020).
    """
    if not ours.of or not theirs.of or ours.hits * theirs.of <= theirs.hits * ours.of:
        return 0.0  # the null hypothesis explains the counts at least as well
    together = Rate(ours.hits + theirs.hits, ours.of + theirs.of)
    mixed = _log_mixture(ours) + _log_mixture(theirs) + math.log(2 * max(probability_higher(ours, theirs), 1e-12))
    return math.exp(min(mixed - _log_best(together), 700.0))


@lru_cache(maxsize=256)
def _quantiles(rate: Rate) -> NDArray[np.float64]:
    """Returns evenly spaced quantiles of the posterior. Several comparisons need the same ones."""
    return np.asarray(betaincinv(rate.hits + _PRIOR, rate.of - rate.hits + _PRIOR, _POINTS))


def _log_mixture(rate: Rate) -> float:
    return float(betaln(rate.hits + _PRIOR, rate.of - rate.hits + _PRIOR) - betaln(_PRIOR, _PRIOR))


def _log_best(rate: Rate) -> float:
    missed = rate.of - rate.hits
    return float(xlogy(rate.hits, rate.hits / rate.of) + xlogy(missed, missed / rate.of))
