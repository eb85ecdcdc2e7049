"""Simulates canaries on synthetic traffic or on a home's own, to see how often a policy's decisions are right.

Each user who rates is one outcome at each share, whatever number of ratings they give. They come in the order of Zipf's
law, so the few who ask most come first, and stay with an arm as long as the share stays, as in
``agents/answerer/routing.py``. Canaries run side by side, and are looked at after every outcome with the rules of
``agents/promoter/canary.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.promoter.canary import FIELDS, GOES_ON, IS_BETTER, IS_WORSE, Outcomes, decide
from schemas.guardrails import STEPS_PER_DOUBLING
from schemas.policies import PromoterPolicy

End = Literal["promoted", "rolled back", "undecided"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_OUTCOMES = 1500
AT_ONCE = 1000
"""Canaries that are simulated side by side."""
_STEPS = 40
"""Steps of latency and of length: a canary's users lie within ten doublings."""
_ASKED, _FAILED, _JUDGED, _BAD, _ANSWERED, _DECLINED, _ASKED_BACK = range(len(FIELDS))


@dataclass(frozen=True, kw_only=True)
class Conduct:
    """How an arm answers, apart from what users think of it."""

    failed: float = 0.02
    declined: float = 0.05
    asked_back: float = 0.1
    slower: float = 1.0
    """Users' mean latency is so many times the usual one, which is spread log-normally over users."""
    longer: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Users:
    """Some users' values. ``bad``: the part of their ratings that was bad. ``slow`` and ``long``: steps."""

    bad: Floats
    failed: Floats
    declined: Floats
    asked_back: Floats
    slow: Integers
    long: Integers

    def __getitem__(self, chosen: object) -> Users:
        return Users(**{name: values[chosen] for name, values in vars(self).items()})


class Population(Protocol):
    """Who asks. ``arm``: 0 for the challenger and 1 for the champion."""

    @property
    def users(self) -> int:
        """How many users rate, if they are asked long enough."""
        ...

    def rating(self, arm: Integers, stage: Integers) -> Floats:
        """The part of the users who rate."""
        ...

    def draw(self, generator: np.random.Generator, arm: Integers, stage: Integers, come: Integers) -> Users:
        """Draws a user for each element. ``come``: how many have rated before at this share."""
        ...


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Synthetic users. Where a pair is given, the challenger's value comes first."""

    champion: float
    """The rate of bad answers among rated ones."""
    challenger: float
    moves: float = 0.0
    """Both rates move by this from one share to the next."""
    displeased: tuple[float, float] = (0.5, 0.5)
    """The part of the users with a bad answer who rate it."""
    pleased: tuple[float, float] = (0.1, 0.1)
    conduct: tuple[Conduct, Conduct] = (Conduct(), Conduct())
    users: int = 5000

    @classmethod
    def of_truth(
        cls, *, champion: float, challenger: float, displeased: tuple[float, float], pleased: tuple[float, float]
    ) -> Traffic:
        """Makes traffic of the rates of bad answers among all, which the raters' bias then distorts."""
        ours, theirs = (
            bad * yes / (bad * yes + (1 - bad) * no)
            for bad, yes, no in zip((challenger, champion), displeased, pleased, strict=True)
        )
        return cls(champion=theirs, challenger=ours, displeased=displeased, pleased=pleased)

    def rating(self, arm: Integers, stage: Integers) -> Floats:
        """Follows from the rate among rated answers: the raters are b of the displeased and 1 - b of the pleased."""
        bad = self._bad(arm, stage)
        return np.asarray(1 / (bad / np.array(self.displeased)[arm] + (1 - bad) / np.array(self.pleased)[arm]))

    def draw(self, generator: np.random.Generator, arm: Integers, stage: Integers, come: Integers) -> Users:
        conduct = {name: np.array([getattr(each, name) for each in self.conduct])[arm] for name in vars(Conduct())}
        size = len(arm)
        happens = {
            name: (generator.random(size, dtype=np.float32) < conduct[name]).astype(float)
            for name in ("failed", "declined", "asked_back")
        }
        return Users(
            bad=(generator.random(size) < self._bad(arm, stage)).astype(float),
            slow=_steps(generator.standard_normal(size, dtype=np.float32) * 0.5, conduct["slower"]),
            long=_steps(generator.standard_normal(size, dtype=np.float32) * 0.7, conduct["longer"]),
            **happens,
        )

    def _bad(self, arm: Integers, stage: Integers) -> Floats:
        return np.asarray(np.where(arm == 0, self.challenger, self.champion) + self.moves * stage)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A home's own users, in the order in which they came: each is drawn again from those who came at about that time.

    So the traffic's own changes of quality stay. The challenger differs from the recorded answers by ``worse``: so many
    more of its answers are bad, or fewer.
    """

    raters: Users
    others: Users
    """Those who rated nothing."""
    worse: float = 0.0
    users: int = 0
    """How many users rate; the recorded number if 0."""

    def __post_init__(self) -> None:
        if not self.users:
            object.__setattr__(self, "users", len(self.raters.bad))

    def rating(self, arm: Integers, stage: Integers) -> Floats:
        ours, others = len(self.raters.bad), len(self.others.bad)
        return np.full(len(arm), ours / (ours + others))

    def draw(self, generator: np.random.Generator, arm: Integers, stage: Integers, come: Integers) -> Users:
        found = _near(self.raters, generator, come / self.users)
        bad = float(self.raters.bad.mean())
        change = generator.random(len(arm)) < abs(self.worse) / max(1 - bad if self.worse > 0 else bad, 1e-9)
        moved = np.where(change & (arm == 0), 1.0 if self.worse > 0 else 0.0, found.bad)
        return replace(found, bad=moved)

    def draw_silent(self, generator: np.random.Generator, come: Integers) -> Users:
        return _near(self.others, generator, come / self.users)


def _near(some: Users, generator: np.random.Generator, place: Floats) -> Users:
    """Draws for each place, from 0 to 1, one of the users who came at about that time."""
    size = len(some.bad)
    around = max(10.0, size / 20)
    at = place * size + generator.uniform(-around, around, len(place))
    return some[np.clip(np.abs(at), 0, size - 1).astype(np.int64)]


def _steps(logarithms: NDArray[np.float32], times: Floats) -> Integers:
    """Puts values into steps, the median in the middle."""
    steps = (logarithms / math.log(2) + np.log2(times)) * STEPS_PER_DOUBLING + _STEPS / 2
    return np.asarray(np.clip(steps, 0, _STEPS - 1).astype(np.int64))


@dataclass(frozen=True)
class Ends:
    """How simulated canaries ended: each one's end, and the challenger's and the champion's outcomes until then."""

    ends: NDArray[np.str_]
    outcomes: Integers
    """Shape (canaries, 2)."""

    def share(self, end: End) -> float:
        return float((self.ends == end).mean())

    def interval(self, end: End) -> tuple[float, float]:
        """Returns the 95 % interval of a share (Wilson)."""
        return wilson(int((self.ends == end).sum()), len(self.ends))

    def outcomes_until(self, end: End, quantile: float = 0.5) -> float | None:
        """The quantile of the challenger's outcomes of the canaries that ended so, or None if none did."""
        some = self.outcomes[self.ends == end, 0]
        return float(np.quantile(some, quantile)) if len(some) else None


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Returns Wilson's interval of a rate."""
    rate, square = hits / of, z * z
    middle = (rate + square / (2 * of)) / (1 + square / of)
    half = z * math.sqrt(rate * (1 - rate) / of + square / (4 * of * of)) / (1 + square / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def simulate(
    policy: PromoterPolicy, population: Population, *, canaries: int, seed: int = 0, most: int = MOST_OUTCOMES
) -> Ends:
    """Runs canaries to their ends. ``most``: undecided when one arm has as many outcomes without a decision."""
    generator = np.random.default_rng(seed)
    sizes = [min(AT_ONCE, canaries - at) for at in range(0, canaries, AT_ONCE)]
    parts = [_Canaries(policy, population, size, generator, most).run() for size in sizes]
    return Ends(np.concatenate([each.ends for each in parts]), np.concatenate([each.outcomes for each in parts]))


class _Canaries:
    """Canaries that run side by side."""

    def __init__(
        self,
        policy: PromoterPolicy,
        population: Population,
        canaries: int,
        generator: np.random.Generator,
        most: int,
    ) -> None:
        self._policy, self._population, self._generator, self._most = policy, population, generator, most
        stages = len(policy.shares)
        # where each user is between 0 and 1; below the share: challenger
        places = generator.random((canaries, population.users), dtype=np.float32)
        self._is_ours = [
            np.take_along_axis(places, _order(population.users, canaries, generator), axis=1) < share
            for share in policy.shares
        ]
        self._outcomes = Outcomes(
            np.zeros((canaries, stages, 2, len(FIELDS))),
            np.zeros((canaries, stages, 2, _STEPS)),
            np.zeros((canaries, stages, 2, _STEPS)),
        )
        self._stage, self._come = np.zeros(canaries, dtype=np.int64), np.zeros(canaries, dtype=np.int64)
        self.ends = np.full(canaries, "undecided", dtype="<U11")

    def run(self) -> Ends:
        going = np.arange(len(self.ends))
        while len(going):
            rated = self._next_users(going)
            self._decide(going[rated])
            judged = self._outcomes.sums[going, :, :, _JUDGED].sum(axis=1).max(axis=1)
            full = (judged >= self._most) | (self._come[going] >= self._population.users)
            going = going[(self.ends[going] == "undecided") & ~full]
        return Ends(self.ends, self._outcomes.sums[..., _JUDGED].sum(axis=1).astype(np.int64))

    def _next_users(self, going: Integers) -> NDArray[np.bool_]:
        """Lets users of each canary ask, the last of whom may rate; returns whether they did."""
        stage, come = self._stage[going], self._come[going]
        arm = np.where(np.stack([some[going, come] for some in self._is_ours])[stage, np.arange(len(going))], 0, 1)
        both = np.stack([self._population.rating(np.full(len(going), each), stage) for each in (0, 1)])
        highest = both.max(axis=0)
        # As many ask as it takes until one of the arm that rates more would rate; of the other arm fewer do.
        rates = self._generator.random(len(going)) * highest < both[arm, np.arange(len(going))]
        silent = np.repeat(np.arange(len(going)), self._generator.geometric(highest) - 1)
        shares = np.array(self._policy.shares)[stage[silent]]
        of = np.where(self._generator.random(len(silent)) < shares, 0, 1)
        users = self._population.draw(self._generator, arm, stage, come)
        others = self._silent(of, stage[silent], come[silent])
        self._count(going, stage, arm, users)
        self._count(going[silent], stage[silent], of, others)
        at = going[rates], stage[rates], arm[rates]
        self._outcomes.sums[(*at, np.full(len(at[0]), _JUDGED))] += 1
        self._outcomes.sums[(*at, np.full(len(at[0]), _BAD))] += users.bad[rates]
        self._come[going] += 1
        return np.asarray(rates)

    def _silent(self, arm: Integers, stage: Integers, come: Integers) -> Users:
        if isinstance(self._population, Recorded) and len(self._population.others.bad):
            return self._population.draw_silent(self._generator, come)
        return self._population.draw(self._generator, arm, stage, come)

    def _count(self, canary: Integers, stage: Integers, arm: Integers, users: Users) -> None:
        """Adds what users met, apart from their ratings."""
        shape = self._outcomes.sums.shape[:3]
        row = np.ravel_multi_index((canary, stage, arm), shape)
        sums = self._outcomes.sums.reshape(-1, len(FIELDS))
        for field, values in (
            (_ASKED, np.ones(len(row))),
            (_FAILED, users.failed),
            (_ANSWERED, users.failed < 1),
            (_DECLINED, users.declined * (users.failed < 1)),
            (_ASKED_BACK, users.asked_back * (users.failed < 1)),
        ):
            np.add.at(sums[:, field], row, values)
        answered = users.failed < 1
        np.add.at(self._outcomes.slowness.reshape(-1, _STEPS), (row[answered], users.slow[answered]), 1.0)
        np.add.at(self._outcomes.length.reshape(-1, _STEPS), (row[answered], users.long[answered]), 1.0)

    def _decide(self, going: Integers) -> None:
        last = len(self._policy.shares) - 1
        for stage in np.unique(self._stage[going]):
            here = going[self._stage[going] == stage]
            decisions = decide(self._outcomes[here, : stage + 1], self._policy, last=stage == last)
            self.ends[here[decisions == IS_WORSE]] = "rolled back"
            promoted = (decisions == IS_BETTER) | ((decisions == GOES_ON) & (stage == last))
            self.ends[here[promoted]] = "promoted"
            advances = here[(decisions == GOES_ON) & (stage != last)]
            self._stage[advances] += 1
            self._come[advances] = 0


def _order(users: int, canaries: int, generator: np.random.Generator) -> Integers:
    """Returns the order in which users come for the first time, if the n-th of them asks 1/n as often as the first."""
    # Drawing without replacement is sorting by weights with Gumbel noise.
    return np.argsort(np.log(np.arange(1, users + 1)) - generator.gumbel(size=(canaries, users)), axis=1)


@dataclass(frozen=True)
class Contradiction:
    """A case in which a policy decides wrongly too often. ``rate`` is the share of simulated canaries."""

    champion: float
    challenger: float
    promoted: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        low, high = self.interval
        range_ = f"{self.promoted:.0%} ({low:.0%}–{high:.0%})"
        if self.challenger > self.champion:
            return (
                f"a challenger with {self.challenger:.0%} bad answers against {self.champion:.0%} is promoted in "
                f"{range_} of the canaries, and at most {MOST_WORSE_PROMOTED:.0%} should be"
            )
        return (
            f"a challenger as good as a champion with {self.champion:.0%} bad answers is promoted in only {range_} of "
            f"the canaries, and at least {LEAST_EQUAL_PROMOTED:.0%} should be"
        )


LEAST_EQUAL_PROMOTED = 0.9
MOST_WORSE_PROMOTED = 0.05
WORSE = 0.1
"""A challenger with so many more bad answers should hardly ever be promoted."""
CHAMPIONS = (0.05, 0.1, 0.2, 0.3)


def contradictions(
    policy: PromoterPolicy, *, champions: Sequence[float] = CHAMPIONS, canaries: int = 200, seed: int = 0
) -> list[Contradiction]:
    """Returns the cases in which the policy errs too often: equal arms are not promoted, or worse ones are.

    The interval of the simulated rate must lie beyond the bound, so that chance alone names few cases.
    """
    found = []
    for champion in champions:
        for challenger in (champion, champion + WORSE):
            ends = simulate(policy, Traffic(champion=champion, challenger=challenger), canaries=canaries, seed=seed)
            low, high = ends.interval("promoted")
            if (low > MOST_WORSE_PROMOTED) if challenger > champion else (high < LEAST_EQUAL_PROMOTED):
                found.append(Contradiction(champion, challenger, ends.share("promoted"), (low, high)))
    return found
