"""Compares the adapters of a release with their task as it is now, and decides what follows from a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from agents.promoter import changes
from agents.promoter.changes import Change
from schemas.policies import PromoterPolicy
from schemas.release_state import Release
from schemas.tasks import TaskDifference, TaskFingerprint, differences


def next_step(
    release: Release, present: TaskFingerprint, policy: PromoterPolicy, at: datetime
) -> Change | Release | None:
    """Returns the next change of a release, or the release with a detail that needs no event, or None.

    ``present``: the task as it is now. Apply the result and ask again, until there is none.

    - A champion whose task was replaced falls back to the base model, a challenger is taken back, and an adapter that
      waits does so no longer; not where the policy keeps them.
    - A champion that fell returns when its task is the one that it was validated on again.
    - Any other difference renews the release, so that drift checks do not take it for drift.
    """
    unknown = [each for each in (release.champion, release.challenger, release.waiting) if each]
    unknown = [each for each in unknown if each not in release.fingerprints]
    if unknown:
        found = dict.fromkeys(unknown, present.model_copy(update={"known": False}))
        return replace(release, fingerprints={**release.fingerprints, **found})
    if policy.task_changed == "fall_back":
        if release.waiting is not None and replaced(release, release.waiting, present):
            return replace(release, waiting=None)
        if reasons := replaced(release, release.champion, present):
            rest = "the base model answers until an adapter is validated on the new one"
            return changes.fall_back(release, reason=f"{_another(release.champion, reasons)}; {rest}", at=at)
        if reasons := replaced(release, release.challenger, present):
            taken = changes.take_back(release, reason=_another(release.challenger, reasons), at=at)
            # A champion that fell, and whose canary ends only because the task has changed again, is validated again.
            return replace(taken, release=replace(taken.release, fallen=release.fallen))
    if release.stage != "steady":
        return None  # both arms are asked alike; the release is renewed when its canary has ended
    if release.champion is None:
        if release.fallen is None or replaced(release, release.fallen, present):
            return None
        reason = f"the task is again the one that {release.fallen} was validated on"
        return changes.return_fallen(release, reason=reason, at=at)
    different = differences(release.served_as or release.fingerprints[release.champion], present)
    if not different:
        return None
    return changes.renew(release, present, reason=f"the task has changed ({_words(different)})", at=at)


def replaced(release: Release, adapter: str | None, present: TaskFingerprint) -> tuple[TaskDifference, ...]:
    """Returns the differences for which an adapter should not serve; empty if it may, or if its task is not known."""
    if adapter is None or adapter not in release.fingerprints:
        return ()
    return tuple(each for each in differences(release.fingerprints[adapter], present) if each.replaces)


def notes(release: Release, present: TaskFingerprint) -> list[str]:
    """Returns in which parts the task differs from the one that its adapters were validated on, a sentence each."""
    found = []
    if release.champion is None and (different := replaced(release, release.fallen, present)):
        why = f"{release.fallen} was validated on another task ({_words(different)})"
        found.append(f"the base model answers, because {why}")
    serving = (release.champion, release.challenger if release.stage != "steady" else None)
    for adapter in filter(None, serving):
        known = release.fingerprints.get(adapter)
        found += [f"{_another(adapter, (each,))}" for each in (differences(known, present) if known else ())]
    return found


def unknown(release: Release) -> list[str]:
    """Returns the adapters in service of which nobody knows what they were trained for."""
    serving = filter(None, (release.champion, release.challenger if release.stage != "steady" else None))
    return [each for each in serving if each not in release.fingerprints or not release.fingerprints[each].known]


def _another(adapter: str | None, different: Sequence[TaskDifference]) -> str:
    return f"{adapter} was validated on another task ({_words(different)})"


def _words(different: Sequence[TaskDifference]) -> str:
    return "; ".join(map(str, different))
