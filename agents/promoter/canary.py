"""Decides whether a canary advances, is promoted, is rolled back or holds, from both arms' outcomes since it began.

Each user is one outcome at each share: the part of their rated answers that were bad. So nobody decides by rating
often. Three outcomes are compared: users' ratings, failed answers, and complaints, which are bad answers of all users,
rated or not; they matter where only dissatisfied users rate. Outcomes are compared share by share (``evidence``),
because quality may move in both arms. The rules, in this order:

1. The challenger is worse in one of them, with the policy's ``confidence``: roll back at once. Ratings may use half of
   the error, the others the rest.
2. It is better in the ratings, with the same confidence, and half of ``judged`` users have rated in each arm: promote.
3. ``judged`` users of each arm have rated, and nothing speaks for "worse by the margin": advance to the next share. At
   the last share the challenger is promoted when "not worse by the margin" holds with the policy's confidence.
4. ``watch_seconds`` have passed at one share: the canary holds, and says what is missing. It keeps its share; a newer
   validated adapter takes its place. Missing ratings neither promote nor roll back.

``everlearn promoter explain`` shows how often these rules are right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agents.promoter import evidence
from agents.promoter.evidence import Counts
from schemas.policies import PromoterPolicy
from schemas.questions import Arm
from schemas.release_state import ArmCounts, Release

Step = Literal["wait", "advance", "promote", "roll back", "hold", "end watch"]
Outcomes = NDArray[np.float64]
"""Shape (..., strata, 2, 4): of the challenger and of the champion in each stratum, the fields ``_FIELDS``."""
_FIELDS = ("asked", "failed", "judged", "bad")
WATCHED_RATERS = 2
"""A promoted champion is watched until this many times ``judged`` users have rated."""
WAITS, GOES_ON, IS_BETTER, IS_WORSE = range(4)


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

    def __str__(self) -> str:
        bad, of, their_bad, theirs = self.counts.sum(axis=-2)
        return f"{_part(bad, of)} {self.what}, {_part(their_bad, theirs)} of the champion's"


def judge_canary(release: Release, counts: Sequence[ArmCounts], policy: PromoterPolicy, now: datetime) -> CanaryVerdict:
    """Decides whether a canary or an experiment goes on, and how. ``counts``: since it began."""
    stages = range(release.since_sequence, release.sequence + 1)
    outcomes = np.array([(_of(counts, "challenger", [at]), _of(counts, "champion", [at])) for at in stages])
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
        return CanaryVerdict(step="hold", reason=_missing(release, ratings, policy))
    return WAIT


def decide(outcomes: Outcomes, policy: PromoterPolicy, *, last: bool) -> NDArray[np.int64]:
    """Decides many canaries at once: WAITS, GOES_ON, IS_BETTER or IS_WORSE for each. Shape (canaries).

    ``outcomes``: shape (canaries, strata, 2, 4); the last stratum is the present share. ``last``: no share follows.
    """
    ratings, *others = _compare(outcomes, policy)
    total = ratings.counts.sum(axis=-2)
    rated = np.minimum(total[..., 1], total[..., 3])
    is_worse = np.zeros(rated.shape, dtype=bool)
    for each in (ratings, *others):
        if each.counts[..., 0].any():  # otherwise the challenger has nothing bad
            is_worse |= evidence.worse(each.counts) >= -math.log(each.error)
    is_better = rated >= math.ceil(policy.judged / 2)
    is_better[is_better] = evidence.better(ratings.counts[is_better]) >= -math.log(1 - policy.confidence)
    goes_on = np.minimum(rated, ratings.counts[..., -1, 1]) >= policy.judged
    weights = evidence.not_worse(ratings.counts[goes_on], policy.margin)
    needed = -math.log(1 - policy.confidence) if last else 0.0
    goes_on[goes_on] = (weights.sum(axis=-1) >= needed) & (weights[..., -1] >= 0)
    for each in others:
        goes_on[goes_on] = evidence.not_worse(each.counts[goes_on], each.margin).sum(axis=-1) >= 0
    return np.select([is_worse, is_better, goes_on], [IS_WORSE, IS_BETTER, GOES_ON], WAITS)


def judge_champion(
    release: Release, counts: Sequence[ArmCounts], policy: PromoterPolicy, now: datetime
) -> CanaryVerdict:
    """Decides whether a promoted champion, with all users, is worse by more than the margin than the old one was.

    The old champion answered at another time, when questions may have been easier, so only the margin counts. The new
    one is watched for ``watch_seconds``, or until ``WATCHED_RATERS`` times ``judged`` users have rated.
    """
    before = range(release.since_sequence, release.sequence)
    ours, theirs = _of(counts, "champion", [release.sequence]), _of(counts, "champion", before)
    for each in _compare(np.array([(ours, theirs)]), policy):
        weight = float(evidence.worse_than(each.counts, each.margin))
        if each.counts[..., 3].sum() and weight >= -math.log(each.error):
            reason = f"since it was promoted {each}: worse by more than {each.margin:.0%} with a confidence of "
            return CanaryVerdict(step="roll back", reason=reason + _confidence(weight))
    if ours[_FIELDS.index("judged")] >= WATCHED_RATERS * policy.judged or _is_over(release, policy, now):
        return CanaryVerdict(step="end watch")
    return WAIT


def is_watched(release: Release) -> bool:
    """Whether the champion came out of a canary and is still watched."""
    return release.stage == "steady" and 0 < release.since_sequence < release.sequence


def _compare(outcomes: Outcomes, policy: PromoterPolicy) -> tuple[_Comparison, ...]:
    """Returns the ratings first. They use a little less than half of the error: the evidence is an approximation."""
    asked, failed, judged, bad = (outcomes[..., place] for place in range(len(_FIELDS)))
    error = 1 - policy.confidence
    return (
        _Comparison("users' ratings were bad", _counts(bad, judged), 0.4 * error, policy.margin),
        _Comparison("users' answers failed", _counts(failed, asked), 0.3 * error, policy.max_failed),
        _Comparison("users complained", _counts(bad, asked), 0.3 * error, policy.margin),
    )


def _counts(bad: Counts, of: Counts) -> Counts:
    """Puts both arms beside each other. Takes shape (..., strata, 2), returns (..., strata, 4)."""
    return np.stack([bad[..., 0], of[..., 0], bad[..., 1], of[..., 1]], axis=-1)


def _rolled_back(outcomes: Outcomes, policy: PromoterPolicy) -> CanaryVerdict:
    """Names the comparison that shows it most clearly."""
    weighed = [(float(evidence.worse(each.counts)), each) for each in _compare(outcomes, policy)]
    weight, worst = max(weighed, key=lambda each: each[0] + math.log(each[1].error))
    return CanaryVerdict(step="roll back", reason=f"{worst}: worse with a confidence of {_confidence(weight)}")


def _missing(release: Release, ratings: _Comparison, policy: PromoterPolicy) -> str:
    """Says why a canary holds."""
    total, here = ratings.counts.sum(axis=0), ratings.counts[-1]
    ours, theirs = here[1], total[3]
    held = f"holds at {release.share:.0%} of the users after {policy.watch_seconds:,.0f} s: "
    if min(ours, theirs) < policy.judged:
        return held + (
            f"{ours:.0f} users of the challenger have rated at this share and {theirs:.0f} of the champion, "
            f"{policy.judged} of each are needed"
        )
    return held + f"undecided, {ratings}"


def _next_share(release: Release, policy: PromoterPolicy) -> float | None:
    """Returns the next larger share; an experiment has none."""
    if release.stage == "experiment":
        return None
    return next((each for each in policy.shares if each > release.share), None)


def _of(counts: Iterable[ArmCounts], arm: Arm, sequences: Iterable[int]) -> tuple[float, ...]:
    """Adds up the counts of one arm at these releases, as ``_FIELDS``."""
    wanted = set(sequences)
    some = [each for each in counts if each.arm == arm and each.sequence in wanted]
    return tuple(sum(getattr(each, name) for each in some) for name in _FIELDS)


def _part(bad: float, of: float) -> str:
    return f"{bad:.3g} of {of:.0f}" + (f" ({bad / of:.0%})" if of else "")


def _confidence(weight: float) -> str:
    return f"{min(1 - math.exp(-weight), 0.999):.1%}"


def _is_over(release: Release, policy: PromoterPolicy, now: datetime) -> bool:
    return release.changed_at is not None and now - release.changed_at >= timedelta(seconds=policy.watch_seconds)
