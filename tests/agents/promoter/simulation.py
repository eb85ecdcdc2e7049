"""Simulated canaries: what the rules decide when the true rates are known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from agents.promoter import changes
from agents.promoter.canary import judge_canary
from schemas.policies import PromoterPolicy
from schemas.questions import Arm
from schemas.release_state import ArmCounts, Release

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Users:
    """``bad``: the parts of wrong answers of the challenger and of the champion. ``rates``: who says anything at all of
    a right and of a wrong answer. ``look_every``: questions between two looks."""

    bad: tuple[float, float]
    failed: tuple[float, float] = (0.0, 0.0)
    rates: tuple[float, float] = (1.0, 1.0)
    look_every: int = 8


@dataclass(frozen=True, kw_only=True)
class End:
    """How a canary ended, and after how many questions."""

    step: str
    asked: int
    reason: str


def play(users: Users, policy: PromoterPolicy, generator: np.random.Generator, most: int = 20_000) -> End:
    """One canary from its start to its end."""
    first = Release(task="routing")
    release = changes.start(first, "a", stage="canary", share=policy.shares[0], reason="", at=START).release
    counts: dict[tuple[int, Arm], ArmCounts] = {}
    for asked, draw in enumerate(_draws(generator), start=1):
        arm: Arm = "challenger" if draw[0] < release.share else "champion"
        of = ("challenger", "champion").index(arm)
        failed = draw[1] < users.failed[of]
        wrong = draw[2] < users.bad[of]
        judged = not failed and draw[3] < users.rates[int(wrong)]
        key = release.sequence, arm
        before = counts.get(key) or _none(*key)
        counts[key] = replace(
            before,
            asked=before.asked + 1,
            failed=before.failed + int(failed),
            judged=before.judged + int(judged),
            bad=before.bad + int(judged and wrong),
        )
        if asked % users.look_every:
            continue
        verdict = judge_canary(release, list(counts.values()), policy, START)
        if verdict.step == "advance":
            release = changes.advance(release, share=verdict.share, reason="", at=START).release
        elif verdict.step != "wait" or asked >= most:
            return End(step=verdict.step, asked=asked, reason=verdict.reason)
    raise AssertionError("unreachable")


def share_of(step: str, users: Users, policy: PromoterPolicy, *, canaries: int, seed: int = 1) -> float:
    """Returns the share of the canaries that end so."""
    generator = np.random.default_rng(seed)
    return sum(play(users, policy, generator).step == step for _ in range(canaries)) / canaries


def _draws(generator: np.random.Generator) -> Iterator[list[float]]:
    while True:
        yield from generator.random((256, 4)).tolist()


def _none(sequence: int, arm: Arm) -> ArmCounts:
    return ArmCounts(sequence=sequence, arm=arm, asked=0, failed=0, judged=0, bad=0)
