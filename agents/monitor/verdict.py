"""Decides from what a detector found whether there is drift, and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil

from agents.monitor import windows
from agents.monitor.columns import Examination
from agents.monitor.corrections import CorrectionsFound
from schemas.drift import ColumnResult, Detection, Finding
from schemas.features import Interaction
from schemas.learning import Remedy
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

KINDS = ("sources", "declined", "outcomes", "failures", "questions", "answers")
"""What is tested. Where several kinds drift, a verdict names the first of these."""
_WORSE_P_VALUE = 0.02
"""If something else drifted, answers count as worse when the p-value of their ratings is at most this. Both all answers
and those to novel questions are looked at."""
FEWEST_FACTS = 3
FACTS_SHARE = 0.3
"""At least so many corrections, and this share of them, must be found in documents that the model was not given. Others
may say nothing that a document could say."""
TO_LABEL = 10
"""How many answers a verdict names whose ratings or corrections would tell most."""
_ALIKE = 0.9
"""Of questions with a greater cosine similarity, one is enough to label."""

_HOUR = timedelta(hours=1)
_DAY_HOURS, _WEEK_HOURS = 24, 168


@dataclass(frozen=True, kw_only=True)
class DriftVerdict:
    """``kind``: what drifted, None if nothing did. ``flags``: the number of flagged windows of each tested kind.

    ``to_label``: with the remedy "label", the rows whose ratings or corrections would tell most, the best first.
    """

    kind: str | None
    remedy: Remedy
    reasons: tuple[str, ...]
    flags: dict[str, int]
    to_label: tuple[Interaction, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rated:
    """How some answers were rated. ``p_worse``: how likely it is by chance that they are so much worse than before."""

    rows: int = 0
    rated: int = 0
    corrected: int = 0
    p_worse: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a remedy is chosen by. Answers at hours that the reference has not seen count nowhere but in ``unseen``.

    ``now``: the newest answers in which the drift shows most. ``latest``: those of the shortest window. ``novel`` and
    ``latest_novel``: those of them to novel questions. ``unseen``: how many answers of all current windows are not
    compared. ``corrections``: where the corrections of ``now`` are in the documents.
    """

    now: Rated
    latest: Rated
    novel: Rated = field(default_factory=Rated)
    latest_novel: Rated = field(default_factory=Rated)
    unseen: int = 0
    corrections: CorrectionsFound = field(default_factory=CorrectionsFound)


def evidence(examined: Examination, detection: Detection, corrections: CorrectionsFound) -> Evidence:
    """Collects what a remedy is chosen by."""
    now = [number for number in examined.newest(detection.drifted) if examined.seen[number]]
    latest = [number for number in examined.newest() if examined.seen[number]]
    return Evidence(
        now=_rated(examined, now),
        latest=_rated(examined, latest),
        novel=_rated(examined, [number for number in now if examined.novel[number]]),
        latest_novel=_rated(examined, [number for number in latest if examined.novel[number]]),
        unseen=len(examined.current) - int(examined.seen[examined.reference_rows :].sum()),
        corrections=corrections,
    )


def _rated(examined: Examination, numbers: Sequence[int]) -> Rated:
    rows = [examined.rows[number] for number in numbers]
    return Rated(
        rows=len(rows),
        rated=sum(map(windows.is_rated, rows)),
        corrected=sum(row.outcome == "corrected" for row in rows),
        p_worse=examined.p_worse(numbers),
    )


def judge(
    examined: Examination, detection: Detection, given: Evidence, task: Task, policy: MonitorPolicy
) -> DriftVerdict:
    """Decides. A detector must have tested the columns of ``examined``."""
    verdict = decide(detection.results, examined.findings(), given, task, policy)
    notes = filter(None, (_not_compared(given.unseen, len(examined.current)), short_reference(examined.reference)))
    verdict = replace(verdict, reasons=(*verdict.reasons, *notes))
    if verdict.remedy != "label":
        return verdict
    worse = _got_worse(detection.drifted, given)
    chosen = most_telling(examined, detection.drifted, bad_first=worse is not None)
    return replace(verdict, to_label=tuple(examined.rows[number] for number in chosen))


def decide(
    results: Mapping[str, ColumnResult],
    findings: Sequence[Sequence[Finding]],
    given: Evidence,
    task: Task,
    policy: MonitorPolicy,
) -> DriftVerdict:
    """Decides what drifted, which is what the detector says, and what would help.

    ``results``: by kind, from the detector. ``findings``: of each window, the newest first.
    """
    recent = findings[: policy.of]
    kinds = [kind for kind in KINDS if kind in results]
    flags = {kind: sum(each.flagged for window in recent for each in window if each.kind == kind) for kind in kinds}
    drifted = [kind for kind in kinds if results[kind].drifted]
    if not drifted:
        return DriftVerdict(kind=None, remedy="none", reasons=_no_drift_reasons(flags, policy), flags=flags)
    newest = {each.kind: each for each in findings[0]}
    reasons = [
        f"{kind}: {newest[kind].detail} (flagged in {flags[kind]} of the last {len(recent)} windows)"
        for kind in drifted
    ]
    remedy, why = _remedy(drifted, given, task, policy)
    return DriftVerdict(kind=drifted[0], remedy=remedy, reasons=(*reasons, f"{remedy}: {why}"), flags=flags)


def _remedy(drifted: Sequence[str], given: Evidence, task: Task, policy: MonitorPolicy) -> tuple[Remedy, str]:
    """Chooses the remedy, and says why.

    A training helps where the model is wrong: answers got worse, and there are corrections to learn from. It does not
    help where the model was not given the facts. Drift is established at this point, so weaker evidence is enough.
    """
    missing = _missing_facts(drifted, given.corrections, policy) if task.retrieval else None
    if missing is not None:
        return "index", missing
    worse = _got_worse(drifted, given)
    if worse is not None:
        remedy, why = _for_worse_answers(worse, policy)
        if remedy == "retrain" and given.corrections.problem is not None:
            return "none", f"{why}; a training waits until they can be looked for in the documents"
        return remedy, why
    if drifted == ["failures"]:
        return "none", "failed answers are not mended by training; see 'everlearn interactions list' for why"
    rated, needed = given.latest.rated, policy.min_rated
    if rated < needed:
        return "label", (
            f"something changed, but only {rated} of the latest {given.latest.rows} answers were rated, too few to say "
            f"whether they are good; rate {needed}"
        )
    asked, rated = given.latest_novel.rows, given.latest_novel.rated
    needed = min(asked, ceil(policy.min_rated / 2))
    if "questions" in drifted and rated < needed:
        return "label", (
            f"{asked} of the latest {given.latest.rows} questions are new, but only {rated} of their answers were "
            f"rated, too few to say whether they are good; rate {needed}"
        )
    return "none", f"something changed, but {given.now.rated} rated answers are not certainly worse than before"


def _missing_facts(drifted: Sequence[str], found: CorrectionsFound, policy: MonitorPolicy) -> str | None:
    """Says which facts the model was not given; None if it had them, as far as is known."""
    elsewhere = found.newer + found.missed
    if elsewhere >= max(FEWEST_FACTS, found.served + 1, FACTS_SHARE * found.checked):
        those = ", ".join(found.documents[:3])
        if found.newer >= found.missed:
            return (
                f"the facts changed: {found.newer} of {found.checked} corrections agree with documents that are newer "
                f"than the answers ({those})"
            )
        return (
            f"the facts were not found: {found.missed} of {found.checked} corrections agree with documents that the "
            f"search did not give to the model ({those})"
        )
    # Where users correct answers that had the right source, the model is at fault, whatever else has drifted.
    if found.served >= policy.min_corrected and 2 * found.served > found.checked:
        return None
    if "sources" in drifted:
        return "fewer questions find a fitting document; publish documents on what is asked now"
    if "declined" in drifted:
        return "more questions are declined, because no document answers them; publish documents on what is asked now"
    return None


def _got_worse(drifted: Sequence[str], given: Evidence) -> Rated | None:
    """Returns the answers that got worse, as far as is known."""
    if "outcomes" in drifted:
        return given.now
    if list(drifted) == ["failures"]:  # they are not rated, and say nothing about the answers that are
        return None
    return next((each for each in (given.now, given.novel) if each.p_worse <= _WORSE_P_VALUE), None)


def _for_worse_answers(worse: Rated, policy: MonitorPolicy) -> tuple[Remedy, str]:
    corrected, needed = worse.corrected, policy.min_corrected
    if corrected < needed:
        return "label", (
            f"answers got worse, but only {corrected} corrections say what they should have been; {needed} are needed "
            "to train"
        )
    return "retrain", f"answers got worse, and {corrected} of them were corrected by users"


def most_telling(examined: Examination, drifted: Sequence[str], *, bad_first: bool, most: int = TO_LABEL) -> list[int]:
    """Chooses the answers whose ratings or corrections would tell most; returns their numbers, the best first.

    These are the latest ones that users found bad without saying what is right, and the unrated ones to the most
    unfamiliar questions, from the rows in which the drift shows most. Of questions that are alike, one is chosen.
    """
    numbers = examined.newest(drifted)
    bad = [number for number in reversed(numbers) if examined.rows[number].outcome == "disapproved"]
    unrated = [number for number in numbers if examined.rows[number].outcome == "unrated"]
    unrated.sort(key=lambda number: examined.nearest[number])
    chosen: list[int] = []
    for number in [*bad, *unrated] if bad_first else [*unrated, *bad]:
        if len(chosen) < most and all(examined.likeness(number, other) < _ALIKE for other in chosen):
            chosen.append(number)
    return chosen


def short_reference(reference: Sequence[Interaction]) -> str | None:
    """Returns a sentence where the reference is shorter than a day or a week, and None where it is not."""
    times = [row.answered_at for row in reference if row.answered_at is not None]
    hours = (max(times) - min(times)) / _HOUR if times else 0.0
    if hours >= _WEEK_HOURS - 1:
        return None
    number, unit = (hours * 60, "minute") if hours < 1 else (hours, "hour") if hours < 48 else (hours / 24, "day")
    length = f"{number:.0f} {unit}" + ("" if round(number) == 1 else "s")
    cycle = "a day" if hours < _DAY_HOURS - 1 else "a week"
    return (
        f"the reference covers {length}, less than {cycle}: answers at hours that it has not seen are not compared and "
        "start no training"
    )


def _not_compared(unseen: int, current: int) -> str | None:
    return f"{unseen} of {current} current answers are from hours that the reference has not seen" if unseen else None


def _no_drift_reasons(flags: Mapping[str, int], policy: MonitorPolicy) -> tuple[str, ...]:
    flagged = [f"{kind} were flagged in {count} of the last windows" for kind, count in flags.items() if count]
    if not flagged:
        return ("no test tells the current windows from the reference",)
    return (f"not certain yet: {'; '.join(flagged)}, and {policy.flags} of {policy.of} are needed",)
