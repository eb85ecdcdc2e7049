"""Simulates canaries on synthetic traffic or on a home's own, to see how often a policy's decisions are right.

Each user who rates is one outcome at each share, whatever number of ratings they give. They come in the order of Zipf's
law, so the few who ask most come first, and stay with an arm as long as the share stays, as in
``agents/answerer/routing.py``. Canaries run side by side, and are looked at after every outcome with the rules of
``agents/promoter/canary.py``.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.promoter.canary import FIELDS, GOES_ON, IS_BETTER, IS_WORSE, WAITS, Outcomes, decide
from schemas.features import Interaction
from schemas.guardrails import STEPS_PER_DOUBLING, guarded, step_of
from schemas.policies import PromoterPolicy

End = Literal["promoted", "rolled back", "undecided"]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_OUTCOMES = 1500
AT_ONCE = 1000
"""Canaries that are simulated side by side."""
_AHEAD = 25
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


@dataclass(frozen=True, kw_only=True)
class Who:
    """Users who are to be drawn, each an element of the arrays. ``arm``: 0 for the challenger and 1 for the champion.

    ``come``: how many users have rated before at this share.
    """

    canary: Integers
    arm: Integers
    stage: Integers
    come: Integers


class Population(Protocol):
    """Who asks."""

    @property
    def users(self) -> int:
        """How many users rate, if they are asked long enough."""
        ...

    def rating(self, who: Who) -> Floats:
        """The part of the users who rate."""
        ...

    def draw(self, generator: np.random.Generator, who: Who, *, silent: bool) -> Users:
        """Draws a user for each element. ``silent``: users who rate nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Synthetic users. Where a pair is given, the challenger's value comes first."""

    champion: float | tuple[float, ...] = 0.2
    """The rate of bad answers among rated ones; several for canaries of several cases, which take turns."""
    challenger: float | tuple[float, ...] = 0.2
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

    def rating(self, who: Who) -> Floats:
        """Follows from the rate among rated answers: the raters are b of the displeased and 1 - b of the pleased."""
        bad = self._bad(who)
        return np.asarray(1 / (bad / np.array(self.displeased)[who.arm] + (1 - bad) / np.array(self.pleased)[who.arm]))

    def draw(self, generator: np.random.Generator, who: Who, *, silent: bool) -> Users:
        conduct = {name: np.array([getattr(each, name) for each in self.conduct])[who.arm] for name in vars(Conduct())}
        size = len(who.arm)
        happens = {
            name: (generator.random(size, dtype=np.float32) < conduct[name]).astype(float)
            for name in ("failed", "declined", "asked_back")
        }
        return Users(
            bad=np.zeros(size) if silent else (generator.random(size) < self._bad(who)).astype(float),
            slow=_steps(generator.standard_normal(size, dtype=np.float32) * 0.5, conduct["slower"]),
            long=_steps(generator.standard_normal(size, dtype=np.float32) * 0.7, conduct["longer"]),
            **happens,
        )

    def _bad(self, who: Who) -> Floats:
        ours, theirs = np.atleast_1d(self.challenger), np.atleast_1d(self.champion)
        case = who.canary % len(ours)
        return np.asarray(np.where(who.arm == 0, ours[case], theirs[case]) + self.moves * who.stage)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A home's own users, in the order in which they came: each is drawn again from those who came at about that time.

    So the traffic's own changes of quality stay. The challenger differs from the recorded answers by ``worse``: so many
    more of its answers are bad, or fewer.
    """

    raters: Users
    others: Users
    """Those who rated nothing."""
    worse: float | tuple[float, ...] = 0.0
    users: int = 0
    """How many users rate; the recorded number if 0."""

    def __post_init__(self) -> None:
        if not self.users:
            object.__setattr__(self, "users", len(self.raters.bad))

    def rating(self, who: Who) -> Floats:
        ours, others = len(self.raters.bad), len(self.others.bad)
        return np.full(len(who.arm), ours / (ours + others))

    def draw(self, generator: np.random.Generator, who: Who, *, silent: bool) -> Users:
        found = _near(self.others if silent else self.raters, generator, who.come / self.users)
        bad = float(self.raters.bad.mean())
        worse = np.atleast_1d(self.worse)[who.canary % np.size(self.worse)]
        change = generator.random(len(worse)) < np.abs(worse) / np.maximum(np.where(worse > 0, 1 - bad, bad), 1e-9)
        return replace(found, bad=np.where(change & (who.arm == 0), (worse > 0).astype(float), found.bad))


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

    def case(self, number: int, of: int) -> Ends:
        """Returns the ends of one of several cases."""
        return Ends(self.ends[number::of], self.outcomes[number::of])

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
    numbers = np.arange(canaries)
    portions = [numbers[at : at + AT_ONCE] for at in range(0, canaries, AT_ONCE)]
    parts = [_Canaries(policy, population, portion, generator, most).run() for portion in portions]
    return Ends(np.concatenate([each.ends for each in parts]), np.concatenate([each.outcomes for each in parts]))


class _Canaries:
    """Canaries that run side by side."""

    def __init__(
        self,
        policy: PromoterPolicy,
        population: Population,
        numbers: Integers,
        generator: np.random.Generator,
        most: int,
    ) -> None:
        self._policy, self._population, self._generator, self._most = policy, population, generator, most
        self._numbers = numbers
        canaries, stages = len(numbers), len(policy.shares)
        # where each user is between 0 and 1; below the share: challenger
        places = generator.random((canaries, population.users), dtype=np.float32)
        self._is_ours = [
            np.take_along_axis(places, _order(population.users, canaries, generator), axis=1) < share
            for share in policy.shares
        ]
        self._outcomes = Outcomes(
            np.zeros((canaries, stages, 2, len(FIELDS))),
            np.zeros((canaries, stages, 2, _STEPS), dtype=np.float32),
            np.zeros((canaries, stages, 2, _STEPS), dtype=np.float32),
        )
        self._stage, self._come = np.zeros(canaries, dtype=np.int64), np.zeros(canaries, dtype=np.int64)
        self.ends = np.full(canaries, "", dtype="<U11")

    def run(self) -> Ends:
        going = np.arange(len(self.ends))
        while len(going):
            for stage in np.unique(self._stage[going]):
                self._go_on(going[self._stage[going] == stage], int(stage))
            going = going[self.ends[going] == ""]
        self.ends[self.ends == ""] = "undecided"
        return Ends(self.ends, self._outcomes.sums[..., _JUDGED].sum(axis=1).astype(np.int64))

    def _go_on(self, here: Integers, stage: int) -> None:
        """Lets users of canaries at one share ask, and goes on to each canary's first decision.

        Some steps are taken at once, more where fewer canaries are left, since each call of numpy costs the same then.
        """
        left = self._population.users - int(self._come[here].max())
        steps = min(left, max(1, min(_AHEAD, AT_ONCE // len(here))))
        met, rates = self._next_users(here, stage, steps)
        outcomes = Outcomes(*(self._after(old[here], new, stage) for old, new in self._pairs(met)))
        last = stage == len(self._policy.shares) - 1
        flat = Outcomes(*(new.reshape(-1, *new.shape[2:]) for _, new in self._pairs(outcomes)))
        decisions = np.where(rates, decide(flat, self._policy, last=last).reshape(len(here), steps), WAITS)
        judged = outcomes.sums[..., _JUDGED].sum(axis=2).max(axis=-1)
        come = self._come[here, None] + np.arange(1, steps + 1)
        is_full = (judged >= self._most) | (come >= self._population.users)
        ends = (decisions != WAITS) | is_full
        at = np.where(ends.any(axis=1), ends.argmax(axis=1), steps - 1)
        row = np.arange(len(here))
        for old, new in self._pairs(outcomes):
            old[here, : stage + 1] = new[row, at]
        self._come[here] = come[row, at]
        self._end(here, decisions[row, at], is_full[row, at], last=last)

    def _end(self, here: Integers, decisions: Integers, is_full: NDArray[np.bool_], *, last: bool) -> None:
        promoted = (decisions == IS_BETTER) | ((decisions == GOES_ON) & last)
        advances = (decisions == GOES_ON) & (not last)
        self.ends[here[is_full & ~advances]] = "undecided"
        self.ends[here[decisions == IS_WORSE]] = "rolled back"
        self.ends[here[promoted]] = "promoted"
        self._stage[here[advances]] += 1
        self._come[here[advances]] = 0

    def _next_users(self, here: Integers, stage: int, steps: int) -> tuple[Outcomes, NDArray[np.bool_]]:
        """Lets users of each canary ask, in each step until one comes who may rate.

        Returns what they met, of shapes (canaries, steps, 2, …), and whether that user did rate.
        """
        shape = (len(here), steps)
        cell = np.arange(len(here) * steps)
        canary = np.repeat(here, steps)
        come = (self._come[here, None] + np.arange(steps)).ravel()
        arm = np.where(self._is_ours[stage][canary, come], 0, 1)
        who = Who(canary=self._numbers[canary], arm=arm, stage=np.full(len(cell), stage), come=come)
        both = np.stack([self._population.rating(replace(who, arm=np.full(len(cell), each))) for each in (0, 1)])
        highest = both.max(axis=0)
        # As many ask as it takes until one of the arm that rates more would rate; of the other arm fewer do.
        rates = self._generator.random(len(cell)) * highest < both[arm, cell]
        silent = np.repeat(cell, self._generator.geometric(highest) - 1)
        of = np.where(self._generator.random(len(silent)) < self._policy.shares[stage], 0, 1)
        others = Who(canary=who.canary[silent], arm=of, stage=who.stage[silent], come=come[silent])
        users = self._population.draw(self._generator, who, silent=False)
        met = Outcomes(
            np.zeros((len(cell) * 2, len(FIELDS))),
            np.zeros((len(cell) * 2, _STEPS), dtype=np.float32),
            np.zeros((len(cell) * 2, _STEPS), dtype=np.float32),
        )
        _count(met, cell * 2 + arm, users)
        _count(met, silent * 2 + of, self._population.draw(self._generator, others, silent=True))
        met.sums[(cell * 2 + arm)[rates], _JUDGED] += 1
        met.sums[(cell * 2 + arm)[rates], _BAD] += users.bad[rates]
        sums, slowness, length = (each.reshape(*shape, 2, -1) for each in (met.sums, met.slowness, met.length))
        return Outcomes(sums.astype(np.float64, copy=False), slowness, length), rates.reshape(shape)

    def _pairs(self, other: Outcomes) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        ours = self._outcomes
        return [(ours.sums, other.sums), (ours.slowness, other.slowness), (ours.length, other.length)]

    @staticmethod
    def _after(before: NDArray[Any], met: NDArray[Any], stage: int) -> NDArray[Any]:
        """Returns the outcomes after each step. Takes shapes (canaries, strata, …) and (canaries, steps, …)."""
        after = np.repeat(before[:, None, : stage + 1], met.shape[1], axis=1)
        after[:, :, stage] += met.cumsum(axis=1) if met.shape[1] > 1 else met
        return after


def _count(met: Outcomes, row: Integers, users: Users) -> None:
    """Adds what users met, apart from their ratings."""
    answered = users.failed < 1
    for field, values in (
        (_ASKED, None),
        (_FAILED, users.failed),
        (_ANSWERED, answered),
        (_DECLINED, users.declined * answered),
        (_ASKED_BACK, users.asked_back * answered),
    ):
        met.sums[:, field] += np.bincount(row, values, minlength=len(met.sums))
    for steps, found in ((met.slowness, users.slow), (met.length, users.long)):
        places = row[answered] * _STEPS + found[answered]
        steps += np.bincount(places, minlength=steps.size).reshape(steps.shape)


def _order(users: int, canaries: int, generator: np.random.Generator) -> Integers:
    """Returns the order in which users come for the first time, if the n-th of them asks 1/n as often as the first."""
    # Drawing without replacement is sorting by weights with Gumbel noise.
    return np.argsort(np.log(np.arange(1, users + 1)) - generator.gumbel(size=(canaries, users)), axis=1)


@dataclass(frozen=True)
class Case:
    """A challenger beside a champion, by their rates of bad answers among rated ones."""

    name: str
    champion: float
    challenger: float


def usual_cases(champion: float, margin: float) -> list[Case]:
    """Returns challengers that are better, as good and worse. One whose answers would all be bad is left out."""
    worse = sorted({margin, WORSE, MUCH_WORSE})
    by_name = {"half as bad": champion / 2} if champion else {}
    by_name["as good"] = champion
    by_name.update({f"worse by {each:.0%}": champion + each for each in worse if champion + each < 1})
    return [Case(name, champion, challenger) for name, challenger in by_name.items()]


def simulate_cases(
    policy: PromoterPolicy, cases: Sequence[Case], traffic: Traffic | Recorded, *, canaries: int, seed: int = 0
) -> list[Ends]:
    """Runs as many canaries of each case, on traffic that has the case's rates in place of its own."""
    if isinstance(traffic, Recorded):
        population: Population = replace(traffic, worse=tuple(each.challenger - each.champion for each in cases))
    else:
        rates = [(each.champion, each.challenger) for each in cases]
        champion, challenger = zip(*rates, strict=True)
        population = replace(traffic, champion=champion, challenger=challenger)
    ends = simulate(policy, population, canaries=canaries * len(cases), seed=seed)
    return [ends.case(number, len(cases)) for number in range(len(cases))]


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
MUCH_WORSE = 0.25
CHAMPIONS = (0.05, 0.1, 0.2, 0.3)


def contradictions(
    policy: PromoterPolicy, *, champions: Sequence[float] = CHAMPIONS, canaries: int = 200, seed: int = 0
) -> list[Contradiction]:
    """Returns the cases in which the policy errs too often: equal arms are not promoted, or worse ones are.

    The interval of the simulated rate must lie beyond the bound, so that chance alone names few cases.
    """
    cases = [Case("", champion, champion + worse) for champion in champions for worse in (0.0, WORSE)]
    ends = simulate_cases(policy, cases, Traffic(), canaries=canaries, seed=seed)
    found = (contradiction(case, some) for case, some in zip(cases, ends, strict=True))
    return [each for each in found if each is not None]


def contradiction(case: Case, ends: Ends) -> Contradiction | None:
    """Returns what is wrong with a case of equal arms, or of a challenger worse by ``WORSE``; None if nothing is."""
    low, high = ends.interval("promoted")
    if case.challenger == case.champion:
        wrong = high < LEAST_EQUAL_PROMOTED
    else:
        wrong = math.isclose(case.challenger, case.champion + WORSE) and low > MOST_WORSE_PROMOTED
    return Contradiction(case.champion, case.challenger, ends.share("promoted"), (low, high)) if wrong else None


def recorded(rows: Iterable[Interaction], *, worse: float | tuple[float, ...] = 0.0, users: int = 0) -> Recorded | None:
    """Makes a population of the rows of a task's feature table; None where nobody has rated.

    ``users``: how many users are to rate; as many as did if 0.
    """
    facts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in sorted(rows, key=lambda row: (row.answered_at is not None, row.answered_at, row.answer_id)):
        if row.answered_at is None:
            continue
        if row.outcome in ("approved", "disapproved", "corrected"):
            facts[row.rater].update(rated=1, bad=int(row.outcome != "approved"))
        if row.finish_reason != "retrieve_only":
            failed = row.outcome == "failed"
            facts[row.asker].update({"asked": 1, "failed": int(failed), "answered": int(not failed), **guarded(row)})
    raters = [each for each in facts.values() if each["rated"]]
    if not raters:
        return None
    others = [each for each in facts.values() if not each["rated"]]
    return Recorded(raters=_users(raters), others=_users(others or raters), worse=worse, users=users)


def _users(facts: Sequence[Counter[str]]) -> Users:
    def parts(name: str, of: str) -> Floats:
        return np.array([each[name] / max(each[of], 1) for each in facts])

    def steps(name: str) -> Integers:
        found = np.array([step_of(each[name] // max(each["answered"], 1)) for each in facts])
        return np.asarray(np.clip(found - int(np.median(found)) + _STEPS // 2, 0, _STEPS - 1).astype(np.int64))

    return Users(
        bad=parts("bad", "rated"),
        failed=parts("failed", "asked"),
        declined=parts("declined", "answered"),
        asked_back=parts("asked_back", "answered"),
        slow=steps("latency_ms"),
        long=steps("characters"),
    )
