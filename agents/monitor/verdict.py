"""Decides whether the current windows differ significantly from the reference, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.monitor import windows
from agents.monitor.differences import (
    Difference,
    Floats,
    kinds_differ,
    questions_differ,
    rate_rose,
    rejected,
    splits_for,
    used_rows,
    values_fell,
)
from schemas.drift import Finding
from schemas.features import Interaction
from schemas.learning import Remedy
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

KINDS = ("sources", "outcomes", "failures", "questions", "answers")
"""What is tested. Where several kinds drift, a verdict names the first of these."""

_WORSE_P_VALUE = 0.05
"""If something else drifted, answers count as worse when the p-value of their outcomes is at most this."""

Embeddings = Mapping[str, Floats]
"""Each answer's question as a vector of length 1, by answer id."""


@dataclass(frozen=True, kw_only=True)
class DriftVerdict:
    """``kind``: what drifted, None if nothing did. ``flags``: the number of flagged windows of each tested kind."""

    kind: str | None
    remedy: Remedy
    reasons: tuple[str, ...]
    flags: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """``findings``: of each current window, the newest first. ``figures``: counts of the newest window."""

    findings: tuple[tuple[Finding, ...], ...]
    figures: dict[str, float]
    verdict: DriftVerdict


def judge(found: windows.Windows, embeddings: Embeddings, task: Task, policy: MonitorPolicy) -> Judged:
    """Runs all tests on all current windows, and decides. There must be at least one current window."""
    findings = tuple(examine(found.reference, rows, embeddings, task, policy.alpha) for rows in found.currents)
    figures = windows.figures(found.currents[0])
    return Judged(findings=findings, figures=figures, verdict=decide(findings, figures, task, policy))


def examine(
    reference: Sequence[Interaction],
    current: Sequence[Interaction],
    embeddings: Embeddings,
    task: Task,
    alpha: float,
) -> tuple[Finding, ...]:
    """Runs all tests that make sense for the task, with Holm's correction.

    Without drift, the probability that any test is flagged is at most ``alpha``.
    """
    tested = _differences(reference, current, embeddings, task, splits_for(alpha))
    flags = rejected([difference.p_value for difference, _ in tested.values()], alpha)
    return tuple(
        Finding(kind=kind, p_value=difference.p_value, effect=difference.effect, flagged=flagged, detail=detail)
        for flagged, (kind, (difference, detail)) in zip(flags, tested.items(), strict=True)
    )


def decide(
    findings: Sequence[Sequence[Finding]], figures: Mapping[str, float], task: Task, policy: MonitorPolicy
) -> DriftVerdict:
    """Decides from several windows. ``findings``: of each window, the newest first. ``figures``: of the newest window.

    A kind has drifted when ``flags`` of the last ``of`` windows are flagged for it. Error rate: without drift a window
    is flagged with probability at most ``alpha`` (``examine``). By Markov's inequality one check then finds drift with
    probability at most ``alpha * of / flags``, which is 1.5 % by default, however strongly the windows depend on each
    other through their overlap and their common reference. With independent windows it would be 3 alpha², 0.03 %. The
    real rate lies between; tests/agents/monitor/test_error_rate.py measures it.
    """
    recent = findings[: policy.of]
    kinds = [kind for kind in KINDS if any(each.kind == kind for window in recent for each in window)]
    flags = {kind: sum(each.flagged for window in recent for each in window if each.kind == kind) for kind in kinds}
    drifted = [kind for kind in kinds if flags[kind] >= policy.flags]
    if not drifted:
        return DriftVerdict(kind=None, remedy="none", reasons=_no_drift_reasons(flags, policy), flags=flags)
    newest = {each.kind: each for each in findings[0]}
    reasons = [
        f"{kind}: {newest[kind].detail} (flagged in {flags[kind]} of the last {len(recent)} windows)"
        for kind in drifted
    ]
    # Drift is established at this point, so weaker evidence is enough to choose the remedy.
    got_worse = "outcomes" in drifted or ("outcomes" in newest and newest["outcomes"].p_value <= _WORSE_P_VALUE)
    remedy, why = _remedy(drifted, got_worse, figures, task, policy)
    return DriftVerdict(kind=drifted[0], remedy=remedy, reasons=(*reasons, why), flags=flags)


def _remedy(
    drifted: Sequence[str], got_worse: bool, figures: Mapping[str, float], task: Task, policy: MonitorPolicy
) -> tuple[Remedy, str]:
    """Chooses the remedy, and says why."""
    rated, corrected = int(figures["rated"]), int(figures["corrected"])
    if "sources" in drifted and task.retrieval:
        return "index", "index: fewer questions find a fitting document; publish documents on what is asked now"
    if got_worse:
        if corrected >= policy.min_corrected:
            return "retrain", f"retrain: answers got worse, and {corrected} of them were corrected by users"
        return "label", (
            f"label: answers got worse, but only {corrected} corrections say what they should have been; "
            f"{policy.min_corrected} are needed to train"
        )
    if "failures" in drifted:
        return "none", "none: failed answers are not mended by training; see 'everlearn interactions list' for why"
    if rated < policy.min_rated:
        return "label", (
            f"label: something changed, but only {rated} answers were rated, too few to say whether they are good; "
            f"rate {policy.min_rated}"
        )
    return "none", f"none: something changed, but {rated} rated answers do not look worse than before"


def _no_drift_reasons(flags: Mapping[str, int], policy: MonitorPolicy) -> tuple[str, ...]:
    flagged = [f"{kind} were flagged in {count} of the last windows" for kind, count in flags.items() if count]
    if not flagged:
        return ("no test tells the current windows from the reference",)
    return (f"not certain yet: {'; '.join(flagged)}, and {policy.flags} of {policy.of} are needed",)


def _differences(
    reference: Sequence[Interaction],
    current: Sequence[Interaction],
    embeddings: Embeddings,
    task: Task,
    splits: int,
) -> dict[str, tuple[Difference, str]]:
    """Returns each test's result by its kind, with a sentence."""
    pair = (reference, current)
    found = {
        "questions": _questions(pair, embeddings, splits),
        "outcomes": _rates(pair, windows.is_bad, windows.is_rated, "bad answers among rated ones"),
        "failures": _rates(pair, windows.is_failed, lambda row: True, "failed answers"),
    }
    answered = tuple([row for row in window if not windows.is_failed(row)] for window in pair)
    if task.labels:
        before, now = ([windows.label_of(row, task) for row in window] for window in answered)
        difference = kinds_differ(before, now, splits)
        words = f"{difference.effect:.0%} of the answers went to other labels"
        found["answers"] = difference, words
    if task.retrieval:
        scores = tuple([windows.top_score(row) for row in window] for window in answered)
        difference = values_fell(scores[0], scores[1], splits)
        found["sources"] = difference, f"the median best source is {difference.effect:+.2f} less similar (cosine)"
    return found


def _questions(
    pair: tuple[Sequence[Interaction], Sequence[Interaction]], embeddings: Embeddings, splits: int
) -> tuple[Difference, str]:
    before, now = (
        np.vstack([embeddings[window[index].answer_id] for index in used_rows(len(window))]) for window in pair
    )
    difference = questions_differ(before, now, splits)
    return difference, f"{difference.effect:.0%} of the questions are unlike any in the reference (5 % is normal)"


def _rates(
    pair: tuple[Sequence[Interaction], Sequence[Interaction]],
    is_case: Callable[[Interaction], bool],
    counts: Callable[[Interaction], bool],
    name: str,
) -> tuple[Difference, str]:
    (before, all_before), (now, all_now) = ((sum(map(is_case, window)), sum(map(counts, window))) for window in pair)
    if not all_before or not all_now:
        return rate_rose((before, all_before), (now, all_now)), f"{name}: none to compare"
    words = f"{name} went from {before / all_before:.0%} ({before} of {all_before}) to {now / all_now:.0%}"
    return rate_rose((before, all_before), (now, all_now)), f"{words} ({now} of {all_now})"
