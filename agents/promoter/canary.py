"""Decides whether a canary advances, is promoted, is rolled back or holds, from both arms' outcomes since it began.

Each user is one outcome at each share: the part of their rated answers that were bad. So nobody decides by rating
often. Besides the ratings, *complaints* are compared, which are bad answers of all users, rated or not, since in some
applications only dissatisfied users rate. *Guardrails* need no ratings: failed answers, answers that decline or ask
back, latency and length. Outcomes are compared share by share (``evidence``), because quality may move in both arms.
The rules, in this order:

1. The challenger is worse in its ratings or complaints, or beyond the limit of a guardrail, with the policy's
   ``confidence``: roll back at once. Ratings may use half of the error, the others share the rest.
2. It is better in the ratings, with the same confidence, half of ``judged`` users have rated in each arm, and nothing
   speaks against it in the others: promote.
3. ``judged`` users of each arm have rated, and nothing speaks for "worse by the margin": advance to the next share. At
   the last share the challenger is promoted when "not worse by the margin" holds with the policy's confidence.
4. ``watch_seconds`` have passed at one share: the canary holds, and says what is missing. It keeps its share; a newer
   validated adapter takes its place. Missing ratings neither promote nor roll back.

``everlearn promoter explain`` shows how often these rules are right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agents.promoter import evidence
from agents.promoter.changes import is_watched
from agents.promoter.evidence import Counts
from schemas.guardrails import STEPS, STEPS_PER_DOUBLING
from schemas.policies import PromoterPolicy
from schemas.questions import Arm
from schemas.release_state import ArmCounts, Release

Step = Literal["wait", "advance", "promote", "roll back", "hold", "end watch"]
FIELDS = ("asked", "failed", "judged", "bad", "answered", "declined", "asked_back")
WATCHED_RATERS = 2
"""A promoted champion is watched until this many times ``judged`` users have rated."""
WAITS, GOES_ON, IS_BETTER, IS_WORSE = range(4)
TAIL = 0.05
"""Latency is compared at the 95th percentile, and length at the 5th or the 95th."""
_SHARES_OF_ERROR = (0.4, 0.2)
"""Of ratings and of complaints; the guardrails share what is left. Ratings use a little less than half, because the
evidence is an approximation."""


@dataclass(frozen=True)
class Outcomes:
    """What users of both arms met, stratum by stratum. In each array the challenger comes before the champion.

    ``sums``: shape (..., strata, 2, fields), the ``FIELDS`` of ``ArmCounts``. ``slowness`` and ``length``: shape
    (..., strata, 2, steps), the number of users whose means are of each step.
    """

    sums: NDArray[np.float64]
    slowness: NDArray[np.floating]
    length: NDArray[np.floating]

    def __getitem__(self, chosen: Any) -> Outcomes:  # whatever chooses of an array
        return Outcomes(self.sums[chosen], self.slowness[chosen], self.length[chosen])


@dataclass(frozen=True, kw_only=True)
class CanaryVerdict:
    """What to do, and why, in a sentence with figures. ``share``: the next share, where the step is to advance."""

    step: Step = "wait"
    reason: str = ""
    share: float = 0.0


WAIT = CanaryVerdict()


@dataclass(frozen=True)
class _Comparison:
    what: str
    counts: Counts
    """Shape (..., strata, 4), as in ``evidence``."""
    error: float
    """The probability at which equally good arms may be called different by this comparison."""
    margin: float
    """The challenger's rate may be above the champion's by this, before a promotion and after it."""
    limit: str | None = None
    """In words, what a guardrail allows; None for ratings and complaints, where any increase counts."""
    theirs: str = ""

    def __str__(self) -> str:
        bad, of, their_bad, theirs = self.counts.sum(axis=-2)
        return f"{_part(bad, of)} {self.what}, {_part(their_bad, theirs)} of the champion's{self.theirs}"

    def is_worse(self) -> NDArray[np.bool_]:
        """Whether the challenger is worse, beyond what is allowed, with the confidence that the error leaves."""
        needed = -math.log(self.error)
        if self.limit is None or self.margin == 0:
            found = np.array(np.maximum(evidence.differs(self.counts), 0.0).sum(axis=-1) >= needed)
            if found.any():
                found[found] = evidence.worse(self.counts[found]) >= needed
            return found
        bad, of, their_bad, theirs = (self.counts[..., each] for each in range(4))
        above = bad * np.maximum(theirs, 1) - their_bad * np.maximum(of, 1)
        found = np.array((above > self.margin * np.maximum(of, 1) * np.maximum(theirs, 1)).any(axis=-1))
        if found.any():
            found[found] = evidence.worse_than(self.counts[found], self.margin) >= needed
        return found

    def is_silent(self) -> NDArray[np.bool_]:
        """Whether nothing speaks for "worse by more than is allowed"."""
        if self.margin == 0:
            found = np.array(np.maximum(evidence.differs(self.counts), 0.0).sum(axis=-1) <= 0)
            found[~found] = evidence.worse(self.counts[~found]) <= 0
            return found
        return np.asarray(evidence.not_worse(self.counts, self.margin).sum(axis=-1) >= 0)

    def confidence(self) -> float:
        """How much more than needed speaks for "worse beyond what is allowed", as a logarithm. For one canary."""
        strict = self.limit is None or self.margin == 0
        return float(evidence.worse(self.counts) if strict else evidence.worse_than(self.counts, self.margin))


def judge_canary(release: Release, counts: Sequence[ArmCounts], policy: PromoterPolicy, now: datetime) -> CanaryVerdict:
    """Decides whether a canary or an experiment goes on, and how. ``counts``: since it began."""
    outcomes = _outcomes(release, counts)
    share = _next_share(release, policy)
    [decision] = decide(outcomes[None], policy, last=share is None)
    ratings = _compare(outcomes, policy)[0]
    if decision == IS_WORSE:
        return _rolled_back(outcomes, policy)
    if decision == IS_BETTER:
        return CanaryVerdict(step="promote", reason=f"{ratings}: better with the policy's confidence")
    if decision == GOES_ON and share is not None:
        return CanaryVerdict(step="advance", share=share, reason=f"{ratings}: good enough for a larger share")
    if decision == GOES_ON:
        reason = f"{ratings}: not worse by {policy.margin:.0%} with the policy's confidence"
        return CanaryVerdict(step="promote", reason=reason)
    if _is_over(release, policy, now):
        return CanaryVerdict(step="hold", reason=_missing(release, outcomes, policy))
    return WAIT


def decide(outcomes: Outcomes, policy: PromoterPolicy, *, last: bool) -> NDArray[np.int64]:
    """Decides many canaries at once: WAITS, GOES_ON, IS_BETTER or IS_WORSE for each. Shape (canaries).

    ``outcomes``: of shapes (canaries, strata, 2, …); the last stratum is the present share. ``last``: no share follows.
    """
    ratings, *others = _compare(outcomes, policy)
    total = ratings.counts.sum(axis=-2)
    rated = np.minimum(total[..., 1], total[..., 3])
    is_worse = np.zeros(rated.shape, dtype=bool)
    for each in (ratings, *others):
        is_worse |= each.is_worse()
    needed = -math.log(1 - policy.confidence)
    is_better = (rated >= math.ceil(policy.judged / 2)) & ~is_worse
    is_better[is_better] = np.minimum(evidence.differs(ratings.counts[is_better]), 0).sum(axis=-1) <= -needed
    if is_better.any():
        is_better[is_better] = evidence.better(ratings.counts[is_better]) >= needed
    goes_on = (np.minimum(rated, ratings.counts[..., -1, 1]) >= policy.judged) & ~is_worse
    if goes_on.any():
        weights = evidence.not_worse(ratings.counts[goes_on], policy.margin)
        goes_on[goes_on] = (weights.sum(axis=-1) >= (needed if last else 0.0)) & (weights[..., -1] >= 0)
    some = is_better | goes_on
    for other in others:
        if some.any():
            some[some] = replace(other, counts=other.counts[some]).is_silent()
    return np.select([is_worse, is_better & some, goes_on & some], [IS_WORSE, IS_BETTER, GOES_ON], WAITS)


def judge_champion(
    release: Release, counts: Sequence[ArmCounts], policy: PromoterPolicy, now: datetime
) -> CanaryVerdict:
    """Decides whether a promoted champion, with all users, is worse by more than the margin than the old one was.

    The old champion answered at another time, when questions may have been easier, so only the margins count. The new
    one is watched for ``watch_seconds``, or until ``WATCHED_RATERS`` times ``judged`` users have rated.
    """
    before = range(release.since_sequence, release.sequence)
    ours, theirs = _of(counts, "champion", [release.sequence]), _of(counts, "champion", before)
    outcomes = _stacked([(ours, theirs)])
    for each in _compare(outcomes, policy):
        watched = replace(each, limit=each.limit or f"{each.margin:.0%}")
        if each.counts[..., 3].sum() and watched.is_worse():
            return CanaryVerdict(step="roll back", reason=f"since it was promoted {_found(watched)}")
    if ours.judged >= WATCHED_RATERS * policy.judged or _is_over(release, policy, now):
        return CanaryVerdict(step="end watch")
    return WAIT


def comparisons(release: Release, counts: Sequence[ArmCounts], policy: PromoterPolicy) -> list[str]:
    """Returns each comparison of a canary, an experiment or a watched champion in a sentence with its figures."""
    if is_watched(release):
        before = range(release.since_sequence, release.sequence)
        outcomes = _stacked([(_of(counts, "champion", [release.sequence]), _of(counts, "champion", before))])
    else:
        outcomes = _outcomes(release, counts)
    return [f"{each}{_allowed(each)}" for each in _compare(outcomes, policy)]


def _compare(outcomes: Outcomes, policy: PromoterPolicy) -> tuple[_Comparison, ...]:
    """Returns the ratings first, then the complaints, then the guardrails."""
    by_name = {name: outcomes.sums[..., place] for place, name in enumerate(FIELDS)}
    asked, answered = by_name["asked"], by_name["answered"]
    error = 1 - policy.confidence
    of_ratings, of_complaints = (part * error for part in _SHARES_OF_ERROR)
    # A user may rate others' answers and ask nothing.
    complaints = _counts(by_name["bad"], np.maximum(asked, by_name["judged"]))
    found = [
        ("users' answers failed", _counts(by_name["failed"], asked), policy.max_failed),
        ("users' answers declined", _counts(by_name["declined"], answered), policy.max_declined),
        ("users' answers asked back", _counts(by_name["asked_back"], answered), policy.max_asked_back),
    ]
    tails = [
        _Tail("waited", "s", 1000, outcomes.slowness, policy.max_slower),
        _Tail("had answers of", "characters", 1, outcomes.length, policy.max_longer),
    ]
    if policy.max_shorter is not None:
        tails.append(_Tail("had answers of", "characters", 1, outcomes.length, policy.max_shorter, below=True))
    each = (1 - sum(_SHARES_OF_ERROR)) * error / (len(found) + len(tails))
    return (
        _Comparison("users' ratings were bad", _counts(by_name["bad"], by_name["judged"]), of_ratings, policy.margin),
        _Comparison("users complained", complaints, of_complaints, policy.margin),
        *(_Comparison(what, counts, each, margin, f"{margin:.0%}") for what, counts, margin in found),
        *(tail.comparison(each) for tail in tails),
    )


@dataclass(frozen=True)
class _Tail:
    """Compares the challenger's tail of a distribution with the champion's, moved by the ratio that is allowed.

    The cut is where at most 5 % of the champion's users are beyond it, over all strata. If no user's value were above
    the ratio times what it is with the champion, no more of the challenger's users would be beyond the moved cut.
    """

    verb: str
    unit: str
    per_unit: float
    users: NDArray[np.floating]
    """Shape (..., strata, 2, steps)."""
    ratio: float
    below: bool = False

    def comparison(self, error: float) -> _Comparison:
        users = self.users[..., ::-1] if self.below else self.users
        steps = users.shape[-1]
        moved = math.floor(math.log2(self.ratio) * STEPS_PER_DOUBLING + 0.5)
        of = users.sum(axis=-1)
        beyond = np.zeros((*of.shape, steps + 1), dtype=users.dtype)
        np.cumsum(users[..., ::-1], axis=-1, out=beyond[..., 1:])
        beyond = beyond[..., ::-1]
        theirs = beyond[..., 1, :].sum(axis=-2)
        cut = np.argmax(theirs <= TAIL * theirs[..., :1], axis=-1)  # the first step that so few reach
        places = np.minimum(np.stack([cut + moved, cut], axis=-1), steps)
        places = np.broadcast_to(places[..., None, :, None], (*of.shape, 1))
        bad = np.take_along_axis(beyond, places, axis=-1)[..., 0]
        allowed = f"{self.ratio:g} times as " + ("short" if self.below else "slow" if self.unit == "s" else "long")
        if cut.ndim:  # of many canaries, which are not put into words
            return _Comparison(f"users {self.verb}", _counts(bad, of), error, 0.0, allowed)
        ours, their = (self._value(int(cut) + each, steps) for each in (moved, 0))
        side = "less" if self.below else "more"
        return _Comparison(
            f"users {self.verb} {ours} {self.unit} or {side} on average", _counts(bad, of), error, 0.0, allowed,
            f" {their} {self.unit} or {side}",
        )  # fmt: skip

    def _value(self, place: int, steps: int) -> str:
        """Returns the limit at a step: of the step's lower end, or with ``below`` of its upper end."""
        step = min(max((steps - place if self.below else place) - 1, 0), len(STEPS) - 1)
        return f"{STEPS[step] / self.per_unit:,.3g}"


def _counts(bad: Counts, of: Counts) -> Counts:
    """Puts both arms beside each other. Takes shape (..., strata, 2), returns (..., strata, 4)."""
    return np.stack([bad[..., 0], of[..., 0], bad[..., 1], of[..., 1]], axis=-1)


def _rolled_back(outcomes: Outcomes, policy: PromoterPolicy) -> CanaryVerdict:
    """Names the comparison that shows it most clearly."""
    worst = max(_compare(outcomes, policy), key=lambda each: each.confidence() + math.log(each.error))
    return CanaryVerdict(step="roll back", reason=_found(worst))


def _found(comparison: _Comparison) -> str:
    how = f"worse by more than {comparison.limit}" if comparison.margin and comparison.limit else "worse"
    if comparison.limit and not comparison.margin:
        how = f"more than {comparison.limit}"
    return f"{comparison}: {how} with a confidence of {_confidence(comparison.confidence())}"


def _allowed(comparison: _Comparison) -> str:
    if comparison.limit is None:
        return ""
    return f" ({comparison.limit}{' more' if comparison.margin else ''} is allowed)"


def _missing(release: Release, outcomes: Outcomes, policy: PromoterPolicy) -> str:
    """Says why a canary holds."""
    ratings, *others = _compare(outcomes, policy)
    total, here = ratings.counts.sum(axis=0), ratings.counts[-1]
    ours, theirs = here[1], total[3]
    held = f"holds at {release.share:.0%} of the users after {policy.watch_seconds:,.0f} s: "
    if min(ours, theirs) < policy.judged:
        return held + (
            f"{ours:.0f} users of the challenger have rated at this share and {theirs:.0f} of the champion, "
            f"{policy.judged} of each are needed"
        )
    against = [f"; {each}{_allowed(each)}" for each in others if not each.is_silent()]
    return held + f"undecided, {ratings}{''.join(against)}"


def _next_share(release: Release, policy: PromoterPolicy) -> float | None:
    """Returns the next larger share; an experiment has none."""
    if release.stage == "experiment":
        return None
    return next((each for each in policy.shares if each > release.share), None)


def _outcomes(release: Release, counts: Sequence[ArmCounts]) -> Outcomes:
    """Returns the outcomes of a canary or an experiment, a stratum for each share."""
    stages = range(release.since_sequence, release.sequence + 1)
    return _stacked([(_of(counts, "challenger", [at]), _of(counts, "champion", [at])) for at in stages])


@dataclass(frozen=True)
class _Sum:
    sums: tuple[float, ...]
    slowness: Mapping[int, int]
    length: Mapping[int, int]

    @property
    def judged(self) -> float:
        return self.sums[FIELDS.index("judged")]


def _of(counts: Iterable[ArmCounts], arm: Arm, sequences: Iterable[int]) -> _Sum:
    """Adds up the counts of one arm at these releases."""
    wanted = set(sequences)
    some = [each for each in counts if each.arm == arm and each.sequence in wanted]
    slowness, length = Counter[int](), Counter[int]()
    for each in some:
        slowness.update(each.slowness)
        length.update(each.length)
    return _Sum(tuple(sum(getattr(each, name) for each in some) for name in FIELDS), slowness, length)


def _stacked(strata: Sequence[tuple[_Sum, _Sum]]) -> Outcomes:
    """Makes the arrays of the challenger and the champion in each stratum."""
    steps = range(len(STEPS) + 1)

    def users(steps_of: Mapping[int, int]) -> list[float]:
        return [steps_of.get(step, 0) for step in steps]

    return Outcomes(
        np.array([[arm.sums for arm in each] for each in strata], dtype=float),
        np.array([[users(arm.slowness) for arm in each] for each in strata], dtype=float),
        np.array([[users(arm.length) for arm in each] for each in strata], dtype=float),
    )


def _part(bad: float, of: float) -> str:
    return f"{bad:.3g} of {of:.0f}" + (f" ({bad / of:.0%})" if of else "")


def _confidence(weight: float) -> str:
    return f"{min(1 - math.exp(-weight), 0.999):.1%}"


def _is_over(release: Release, policy: PromoterPolicy, now: datetime) -> bool:
    return release.changed_at is not None and now - release.changed_at >= timedelta(seconds=policy.watch_seconds)
