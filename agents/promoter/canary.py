"""Decides whether a canary advances, is promoted or is rolled back, from counts of both arms' answers since it began.

Three rates are compared: failed answers of all, bad answers of the rated ones, bad answers of all. The last one matters
where only dissatisfied users rate. The rules, in this order:

1. The challenger is certainly worse in one rate: roll back at once. This test may be made after every answer. It rolls
   back a challenger that is as good as the champion with a probability of at most 1 - ``confidence``.
2. There are enough ratings: ``judged`` of the challenger at this share, and as many of the champion since the canary
   began. If in no rate the challenger is likely (``LIKELY``) to be more than the margin above the champion, advance to
   the next share, or promote after the last one.
3. It is still likely to be so after ``PATIENCE`` times as many ratings: roll back.
4. ``watch_seconds`` have passed at one share without a decision: roll back. Missing ratings are a bad sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from agents.promoter.rates import Rate, e_value_higher, probability_higher
from schemas.policies import PromoterPolicy
from schemas.release_state import ArmCounts, Release

LIKELY = 0.7
"""A canary must not reach this probability of harm.

At the default settings, about 5 % of the canaries are rolled back if the challenger is as good as the champion. If the
challenger has twice as many bad answers, about all are rolled back when the champion has 25 % bad answers, and about
half when it has 10 %.
"""
PATIENCE = 2


@dataclass(frozen=True, kw_only=True)
class CanaryVerdict:
    """What to do, and why, in a sentence with figures. ``share``: the next share, where the step is to advance."""

    step: Literal["wait", "advance", "promote", "roll back", "end watch"] = "wait"
    reason: str = ""
    share: float = 0.0


WAIT = CanaryVerdict()


@dataclass(frozen=True)
class _Comparison:
    what: str
    ours: Rate
    theirs: Rate
    margin: float

    def __str__(self) -> str:
        return f"{self.ours} {self.what}, {self.theirs} of the champion's"

    @property
    def probability_of_harm(self) -> float:
        return probability_higher(self.ours, self.theirs, self.margin)


def judge_canary(release: Release, counts: Sequence[ArmCounts], policy: PromoterPolicy, now: datetime) -> CanaryVerdict:
    """Decides whether a canary or an experiment goes on, and how. ``counts``: since it began."""
    challenger = _total(each for each in counts if each.arm == "challenger")
    champion = _total(each for each in counts if each.arm == "champion")
    here = _total(each for each in counts if each.arm == "challenger" and each.sequence >= release.sequence).judged
    comparisons = _compare(challenger, champion, policy)
    worse = _certainly_worse(comparisons, policy)
    if worse is not None:
        return CanaryVerdict(step="roll back", reason=worse)
    fewest = min(here, champion.judged)
    if fewest >= policy.judged:
        worst = max(comparisons, key=lambda each: each.probability_of_harm)
        harm = worst.probability_of_harm
        if harm < LIKELY:
            return _go_on(release, policy, f"{comparisons[1]}: good enough with a probability of {1 - harm:.0%}")
        if fewest >= PATIENCE * policy.judged:
            return CanaryVerdict(step="roll back", reason=f"{worst}: with a probability of {harm:.0%} too much worse")
    if _is_over(release, policy, now):
        reason = f"too few ratings in {policy.watch_seconds:,.0f} s to be judged: {here} of the challenger at this "
        reason += f"share and {champion.judged} of the champion, {policy.judged} of each are needed"
        if fewest >= policy.judged:
            reason = f"undecided after {policy.watch_seconds:,.0f} s: {comparisons[1]}"
        return CanaryVerdict(step="roll back", reason=reason)
    return WAIT


def judge_champion(
    release: Release, counts: Sequence[ArmCounts], policy: PromoterPolicy, now: datetime
) -> CanaryVerdict:
    """Decides whether a promoted champion, with all users, is certainly worse than the old champion was in the canary.

    It is watched for ``watch_seconds``, or until ``PATIENCE`` times ``judged`` ratings have arrived.
    """
    ours = _total(each for each in counts if each.arm == "champion" and each.sequence >= release.sequence)
    theirs = _total(each for each in counts if each.arm == "champion" and each.sequence < release.sequence)
    worse = _certainly_worse(_compare(ours, theirs, policy), policy)
    if worse is not None:
        return CanaryVerdict(step="roll back", reason=f"since it was promoted {worse}")
    if ours.judged >= PATIENCE * policy.judged or _is_over(release, policy, now):
        return CanaryVerdict(step="end watch")
    return WAIT


def is_watched(release: Release) -> bool:
    """Whether the champion came out of a canary and is still watched."""
    return release.stage == "steady" and 0 < release.since_sequence < release.sequence


def _go_on(release: Release, policy: PromoterPolicy, reason: str) -> CanaryVerdict:
    share = next((each for each in policy.shares if each > release.share), None)
    if release.stage == "canary" and share is not None:
        return CanaryVerdict(step="advance", share=share, reason=reason)
    return CanaryVerdict(step="promote", reason=reason)


def _certainly_worse(comparisons: Sequence[_Comparison], policy: PromoterPolicy) -> str | None:
    """Returns why the challenger is worse, or None. The comparisons share the allowed error evenly."""
    for each in comparisons:
        e_value = e_value_higher(each.ours, each.theirs) / len(comparisons)
        if e_value * (1 - policy.confidence) >= 1:
            return f"{each}: worse with a confidence of {1 - 1 / e_value:.1%}"
    return None


def _compare(ours: ArmCounts, theirs: ArmCounts, policy: PromoterPolicy) -> tuple[_Comparison, ...]:
    return (
        _Comparison(
            "answers failed", Rate(ours.failed, ours.asked), Rate(theirs.failed, theirs.asked), policy.max_failed
        ),
        _Comparison(
            "rated answers were bad", Rate(ours.bad, ours.judged), Rate(theirs.bad, theirs.judged), policy.margin
        ),
        _Comparison("answers were called bad", _called_bad(ours), _called_bad(theirs), policy.margin),
    )


def _called_bad(counts: ArmCounts) -> Rate:
    return Rate(counts.bad, counts.asked - counts.failed)


def _total(counts: Iterable[ArmCounts]) -> ArmCounts:
    some = list(counts)
    return ArmCounts(
        sequence=0,
        arm="champion",
        asked=sum(each.asked for each in some),
        failed=sum(each.failed for each in some),
        judged=sum(each.judged for each in some),
        bad=sum(each.bad for each in some),
    )


def _is_over(release: Release, policy: PromoterPolicy, now: datetime) -> bool:
    return release.changed_at is not None and now - release.changed_at >= timedelta(seconds=policy.watch_seconds)
