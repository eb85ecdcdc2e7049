"""Decides from what a detector found whether there is drift, and what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from agents.monitor import windows
from agents.monitor.columns import Examination
from agents.monitor.corrections import CorrectionsFound
from agents.monitor.cycles import is_seen, short_reference
from agents.monitor.differences import rate_rose
from schemas.drift import ColumnResult, Detection, Finding
from schemas.features import Interaction
from schemas.learning import Remedy
from schemas.policies import MonitorPolicy
from schemas.tasks import Task

KINDS = ("sources", "declined", "outcomes", "failures", "questions", "answers")
"""What is tested. Where several kinds drift, a verdict names the first of these."""
_WORSE_P_VALUE = 0.05
"""If something else drifted, answers count as worse when the p-value of their outcomes is at most this."""
FEWEST_FACTS = 3
"""At least so many corrections must be found in documents that the model was not given."""
TO_LABEL = 10
"""How many answers a verdict names whose ratings or corrections would tell most."""
_ALIKE = 0.9
"""Of questions with a greater cosine similarity, one is enough to label."""


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
    """How some answers were rated."""

    rated: int = 0
    bad: int = 0
    corrected: int = 0

    @classmethod
    def of(cls, rows: Sequence[Interaction]) -> Rated:
        return cls(
            rated=sum(map(windows.is_rated, rows)),
            bad=sum(map(windows.is_bad, rows)),
            corrected=sum(row.outcome == "corrected" for row in rows),
        )

    def p_worse_than(self, before: Rated) -> float:
        """Returns how likely so many more bad ratings are by chance."""
        return rate_rose((before.bad, before.rated), (self.bad, self.rated)).p_value


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a remedy is chosen by.

    ``before``: ratings of the reference. ``now``: of the newest window. ``novel``: of the answers to novel questions
    in all current windows, ``novel_rows`` in all. ``seen``: of the answers of all current windows at hours that the
    reference has seen; ``unseen_rows`` are at others. ``corrections``: where the current ones are found in documents.
    """

    before: Rated
    now: Rated
    novel: Rated = field(default_factory=Rated)
    novel_rows: int = 0
    seen: Rated = field(default_factory=Rated)
    unseen_rows: int = 0
    corrections: CorrectionsFound = field(default_factory=CorrectionsFound)


def evidence(examined: Examination, newest: Sequence[Interaction], corrections: CorrectionsFound) -> Evidence:
    """Collects what a remedy is chosen by. ``newest``: the newest current window."""
    reference = examined.rows[: examined.reference_rows]
    novel = [examined.rows[number] for number in examined.novel()]
    seen = is_seen(reference, examined.current)
    return Evidence(
        before=Rated.of(reference),
        now=Rated.of(newest),
        novel=Rated.of(novel),
        novel_rows=len(novel),
        seen=Rated.of([row for row, known in zip(examined.current, seen, strict=True) if known]),
        unseen_rows=len(seen) - sum(seen),
        corrections=corrections,
    )


def judge(
    examined: Examination, detection: Detection, given: Evidence, task: Task, policy: MonitorPolicy
) -> DriftVerdict:
    """Decides. A detector must have tested the columns of ``examined``."""
    reference = examined.rows[: examined.reference_rows]
    verdict = decide(detection.results, examined.findings(), given, task, policy)
    note = short_reference(reference)
    return replace(
        verdict,
        reasons=(*verdict.reasons, note) if note else verdict.reasons,
        to_label=tuple(most_telling(examined)) if verdict.remedy == "label" else (),
    )


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
    if "outcomes" in drifted or _got_worse(given.now, given) or _got_worse(given.novel, given):
        return _for_worse_answers(given, policy)
    if drifted == ["failures"]:
        return "none", "failed answers are not mended by training; see 'everlearn interactions list' for why"
    rated, needed = given.now.rated, policy.min_rated
    if rated < needed:
        return "label", (
            f"something changed, but only {rated} answers were rated, too few to say whether they are good; "
            f"rate {needed}"
        )
    asked, needed = given.novel_rows, min(given.novel_rows, ceil(policy.min_rated / 2))
    if "questions" in drifted and given.novel.rated < needed:
        return "label", (
            f"{asked} of the latest questions are new, but only {given.novel.rated} of their answers were rated, too "
            f"few to say whether they are good; rate {needed}"
        )
    return "none", f"something changed, but {rated} rated answers do not look worse than before"


def _missing_facts(drifted: Sequence[str], found: CorrectionsFound, policy: MonitorPolicy) -> str | None:
    """Says which facts the model was not given; None if it had them, as far as is known."""
    elsewhere = found.newer + found.missed
    if elsewhere >= FEWEST_FACTS and 2 * elsewhere >= found.checked:
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


def _got_worse(now: Rated, given: Evidence) -> bool:
    return now.p_worse_than(given.before) <= _WORSE_P_VALUE


def _for_worse_answers(given: Evidence, policy: MonitorPolicy) -> tuple[Remedy, str]:
    corrected, needed = given.now.corrected, policy.min_corrected
    if corrected < needed:
        return "label", (
            f"answers got worse, but only {corrected} corrections say what they should have been; {needed} are needed "
            "to train"
        )
    if given.unseen_rows and not (_got_worse(given.seen, given) and given.seen.corrected >= needed):
        return "none", (
            f"answers look worse, but {given.unseen_rows} of them are from hours that the reference has not seen; a "
            "training waits until it shows at other hours, too"
        )
    return "retrain", f"answers got worse, and {corrected} of them were corrected by users"


def most_telling(examined: Examination, most: int = TO_LABEL) -> list[Interaction]:
    """Chooses the answers of the current windows whose ratings or corrections would tell most, the best first.

    These are the answers that users found bad without saying what is right, the latest first, and then those to the
    most unfamiliar questions that nobody rated. Of questions that are alike, one is chosen.
    """
    numbers = range(examined.reference_rows, len(examined.rows))
    bad = [number for number in reversed(numbers) if examined.rows[number].outcome == "disapproved"]
    unrated = [number for number in numbers if examined.rows[number].outcome == "unrated"]
    unrated.sort(key=lambda number: examined.familiarity[number])
    chosen: list[int] = []
    for number in [*bad, *unrated]:
        if len(chosen) < most and all(examined.likeness(number, other) < _ALIKE for other in chosen):
            chosen.append(number)
    return [examined.rows[number] for number in chosen]


def _no_drift_reasons(flags: Mapping[str, int], policy: MonitorPolicy) -> tuple[str, ...]:
    flagged = [f"{kind} were flagged in {count} of the last windows" for kind, count in flags.items() if count]
    if not flagged:
        return ("no test tells the current windows from the reference",)
    return (f"not certain yet: {'; '.join(flagged)}, and {policy.flags} of {policy.of} are needed",)
