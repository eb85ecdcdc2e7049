"""What counts say of two rates: how likely one is higher, and evidence for it that may be looked at all the time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, betaln, xlogy

_PRIOR = 0.5
"""Of both parameters of the Beta prior (Jeffreys'): it decides little, also near rates of 0 and 1."""
_POINTS = (np.arange(128) + 0.5) / 128


@dataclass(frozen=True)
class Rate:
    """So many of so many."""

    hits: int
    of: int

    @property
    def mean(self) -> float:
        """The posterior's mean."""
        return (self.hits + _PRIOR) / (self.of + 2 * _PRIOR)

    def __str__(self) -> str:
        return f"{self.hits} of {self.of}" + (f" ({self.hits / self.of:.0%})" if self.of else "")


def chance_higher(ours: Rate, theirs: Rate, by: float = 0.0) -> float:
    """The posterior probability that our rate is more than ``by`` above theirs; to about 0.002."""
    below = betainc(theirs.hits + _PRIOR, theirs.of - theirs.hits + _PRIOR, np.clip(_quantiles(ours) - by, 0.0, 1.0))
    return float(below.mean())


def evidence_higher(ours: Rate, theirs: Rate) -> float:
    """An e-value against "our rate is not above theirs", valid however often and whenever it is looked at.

    If the rates are equal, or ours is lower, it ever reaches x with a probability of at most 1/x (Ville's inequality).
    It is the likelihood, mixed over the Beta prior where ours is higher, over the greatest likelihood where it is not:
    universal inference (Wasserman, Ramdas and Balakrishnan, PNAS 2020).
    """
    if not ours.of or not theirs.of or ours.hits * theirs.of <= theirs.hits * ours.of:
        return 0.0  # the null explains it at least as well
    together = Rate(ours.hits + theirs.hits, ours.of + theirs.of)
    mixed = _log_mixture(ours) + _log_mixture(theirs) + math.log(2 * max(chance_higher(ours, theirs), 1e-12))
    return math.exp(min(mixed - _log_best(together), 700.0))


@lru_cache(maxsize=256)
def _quantiles(rate: Rate) -> NDArray[np.float64]:
    """Of the posterior, evenly spaced; several comparisons ask for the same."""
    return np.asarray(betaincinv(rate.hits + _PRIOR, rate.of - rate.hits + _PRIOR, _POINTS))


def _log_mixture(rate: Rate) -> float:
    return float(betaln(rate.hits + _PRIOR, rate.of - rate.hits + _PRIOR) - betaln(_PRIOR, _PRIOR))


def _log_best(rate: Rate) -> float:
    missed = rate.of - rate.hits
    return float(xlogy(rate.hits, rate.hits / rate.of) + xlogy(missed, missed / rate.of))
