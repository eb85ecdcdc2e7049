"""Simulates canaries on synthetic traffic, to see how often a policy's decisions are right.

Users come by Zipf's law: a few ask most of the questions. They stay with an arm as long as the share stays, as in
``agents/answerer/routing.py``. Each user who rates is one outcome at each share, whatever number of ratings they give,
so only the order in which new users rate matters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.promoter.canary import GOES_ON, IS_BETTER, IS_WORSE, Outcomes, decide
from schemas.policies import PromoterPolicy

End = Literal["promoted", "rolled back", "undecided"]
_AT_ONCE = 1000
"""Canaries that are simulated side by side."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What the arms do and who asks."""

    champion: float
    """The rate of bad answers among rated ones."""
    challenger: float
    moves: float = 0.0
    """Both rates move by this from one share to the next."""
    users: int = 5000
    rated: float = 0.2
    """The part of the users who rate."""
    most: int = 1500
    """A canary is undecided when one arm has as many outcomes without a decision."""


@dataclass(frozen=True)
class Ends:
    """How simulated canaries ended: each one's end, and the challenger's and the champion's outcomes until then."""

    ends: NDArray[np.str_]
    outcomes: NDArray[np.int64]
    """Shape (canaries, 2)."""

    def share(self, end: End) -> float:
        return float((self.ends == end).mean())

    def outcomes_until(self, end: End, quantile: float = 0.5) -> float | None:
        """The quantile of the challenger's outcomes of the canaries that ended so, or None if none did."""
        some = self.outcomes[self.ends == end, 0]
        return float(np.quantile(some, quantile)) if len(some) else None


def simulate(policy: PromoterPolicy, traffic: Traffic, *, canaries: int, seed: int = 0) -> Ends:
    """Runs canaries to their ends. They are looked at after every outcome."""
    generator = np.random.default_rng(seed)
    parts = [_play(policy, traffic, min(_AT_ONCE, canaries - at), generator) for at in range(0, canaries, _AT_ONCE)]
    return Ends(np.concatenate([each.ends for each in parts]), np.concatenate([each.outcomes for each in parts]))


def _play(policy: PromoterPolicy, traffic: Traffic, canaries: int, generator: np.random.Generator) -> Ends:
    stages = len(policy.shares)
    places = generator.random(
        (canaries, traffic.users)
    )  # where each user is between 0 and 1; below the share: challenger
    challenger = [
        np.take_along_axis(places, _order(traffic.users, canaries, generator), axis=1) < share
        for share in policy.shares
    ]
    outcomes = np.zeros((canaries, stages, 2, 4))
    stage, come = np.zeros(canaries, dtype=int), np.zeros(canaries, dtype=int)
    ends = np.full(canaries, "undecided", dtype="<U11")
    going = np.arange(canaries)
    while len(going):
        arm = _arms(challenger, stage[going], come[going], going)
        rates = np.where(arm == 0, traffic.challenger, traffic.champion) + traffic.moves * stage[going]
        bad = generator.random(len(going)) < rates
        outcomes[going, stage[going], arm, 2] += 1
        outcomes[going, stage[going], arm, 3] += bad
        # Between two users who rate, some ask and do not rate.
        silent = generator.geometric(traffic.rated, len(going)) - 1
        ours = generator.binomial(silent, np.array(policy.shares)[stage[going]])
        outcomes[going, stage[going], arm, 0] += 1
        outcomes[going, stage[going], 0, 0] += ours
        outcomes[going, stage[going], 1, 0] += silent - ours
        come[going] += 1
        decisions = _decide(outcomes, stage, going, policy)
        last = stage[going] == stages - 1
        ends[going[decisions == IS_WORSE]] = "rolled back"
        ends[going[(decisions == IS_BETTER) | ((decisions == GOES_ON) & last)]] = "promoted"
        advances = (decisions == GOES_ON) & ~last
        stage[going[advances]] += 1
        come[going[advances]] = 0
        full = (outcomes[going, :, :, 2].sum(axis=1).max(axis=1) >= traffic.most) | (come[going] >= traffic.users)
        going = going[(ends[going] == "undecided") & ~full]
    return Ends(ends, outcomes[..., 2].sum(axis=1).astype(np.int64))


def _order(users: int, canaries: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Returns the order in which users come for the first time, if the n-th of them asks 1/n as often as the first."""
    # Drawing without replacement is sorting by weights with Gumbel noise.
    return np.argsort(np.log(np.arange(1, users + 1)) - generator.gumbel(size=(canaries, users)), axis=1)


def _arms(
    challenger: list[NDArray[np.bool_]], stage: NDArray[np.int64], come: NDArray[np.int64], going: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns the arm of each canary's next user: 0 for the challenger, 1 for the champion."""
    each_stage = np.stack([some[going, come] for some in challenger])
    return np.where(each_stage[stage, np.arange(len(going))], 0, 1)


def _decide(
    outcomes: Outcomes, stage: NDArray[np.int64], going: NDArray[np.int64], policy: PromoterPolicy
) -> NDArray[np.int64]:
    decisions = np.zeros(len(going), dtype=np.int64)
    for at in _stages(stage[going]):
        here = stage[going] == at
        seen = outcomes[going[here], : at + 1]
        decisions[here] = decide(seen, policy, last=at == len(policy.shares) - 1)
    return decisions


def _stages(stage: NDArray[np.int64]) -> Iterator[int]:
    return (int(each) for each in np.unique(stage))
