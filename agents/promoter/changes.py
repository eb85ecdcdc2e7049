"""The changes that a task's release can go through, each from one whole state to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from schemas.envelope import derived_id
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryAdvanced, CanaryStarted, ReleaseEvent, Stage
from schemas.release_state import Release, ReleaseChange
from schemas.tasks import TaskFingerprint

_STATE = tuple(ReleaseEvent.model_fields)
SHOWN = 3
"""How many changes a message tells, the newest ones."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """The next state, the class of event that describes it, and when it was reached."""

    release: Release
    kind: type[ReleaseEvent]
    at: datetime

    @property
    def event(self) -> ReleaseEvent:
        """The whole state as an event."""
        return self.kind(**{name: getattr(self.release, name) for name in _STATE})


def announced(change: ReleaseChange) -> ReleaseEvent:
    """Returns the event that announced a change."""
    kinds = {kind.type: kind for kind in (CanaryStarted, CanaryAdvanced, AdapterPromoted, AdapterRolledBack)}
    return Change(release=change.release, kind=kinds[change.event_type], at=change.at).event


def start(release: Release, adapter_id: str, *, stage: Stage, share: float, reason: str, at: datetime) -> Change:
    """Lets the adapter answer a share of the users. This ends a canary that was under way."""
    sequence = release.sequence + 1
    begun = _next(
        release,
        reason,
        at,
        challenger=adapter_id,
        stage=stage,
        share=share,
        # The salt depends on nothing else, so that every promoter that starts this canary picks the same users.
        salt=derived_id(release.task, sequence, adapter_id),
        since_sequence=sequence,
        since_at=at,
        waiting=None if release.waiting == adapter_id else release.waiting,
        fallen=release.fallen if adapter_id == release.fallen else _fallen_without_challenger(release),
    )
    return Change(release=begun, kind=CanaryStarted, at=at)


def advance(release: Release, *, share: float, reason: str, at: datetime) -> Change:
    """Raises the challenger's share. The salt stays, so that nobody who had the challenger loses it."""
    return Change(release=_next(release, reason, at, share=share), kind=CanaryAdvanced, at=at)


def promote(release: Release, adapter_id: str, *, reason: str, at: datetime, rollbacks: int = 5) -> Change:
    """Lets the adapter answer all users, and keeps the old champion as the previous one.

    ``rollbacks``: how many earlier champions stay known. A rollback behind them returns to the base model.
    """
    earlier = (release.previous, *(release.earlier or ())) if release.champion is not None else ()
    promoted = _steady(release, reason, at, champion=adapter_id, previous=release.champion)
    promoted = replace(promoted, earlier=earlier[: rollbacks - 1])
    if adapter_id == release.challenger:
        # The promoted adapter is still compared with what its canary measured.
        promoted = replace(promoted, since_sequence=release.since_sequence, since_at=release.since_at)
    if release.waiting == adapter_id:
        promoted = replace(promoted, waiting=None)
    promoted = replace(promoted, fallen=None, renewed=0, served_as=None)
    return Change(release=promoted, kind=AdapterPromoted, at=at)


def take_back(release: Release, *, reason: str, at: datetime) -> Change:
    """Removes the challenger; the champion answers all users again."""
    taken = replace(_steady(release, reason, at), fallen=_fallen_without_challenger(release))
    return Change(release=taken, kind=AdapterRolledBack, at=at)


def return_to_previous(release: Release, *, reason: str, at: datetime) -> Change:
    """Brings back the previous champion; the next rollback brings back the one before."""
    before, *earlier = release.earlier or (None,)
    returned = _steady(release, reason, at, champion=release.previous, previous=before)
    returned = replace(returned, earlier=tuple(earlier), renewed=0, served_as=None)
    return Change(release=returned, kind=AdapterRolledBack, at=at)


def fall_back(release: Release, *, reason: str, at: datetime) -> Change:
    """Lets the base model answer all users, because the champion's task was replaced.

    The adapters of rollbacks stay known: they serve again with the champion, if its task comes back.
    """
    fallen = replace(_steady(release, reason, at, champion=None), fallen=release.champion, renewed=0, served_as=None)
    return Change(release=fallen, kind=AdapterRolledBack, at=at)


def _fallen_without_challenger(release: Release) -> str | None:
    """Returns the champion that fell; None where its canary ends without a promotion, so that it does not return."""
    return None if release.fallen == release.challenger else release.fallen


def return_fallen(release: Release, *, reason: str, at: datetime) -> Change:
    """Brings back the champion that fell."""
    returned = replace(_steady(release, reason, at, champion=release.fallen), fallen=None)
    return Change(release=returned, kind=AdapterPromoted, at=at)


def renew(release: Release, task: TaskFingerprint, *, reason: str, at: datetime) -> Change:
    """Keeps the champion, whose task has changed a little. Drift checks begin a new reference with this release."""
    same = _steady(release, reason, at)
    return Change(release=replace(same, renewed=same.sequence, served_as=task), kind=AdapterPromoted, at=at)


def with_fingerprint(release: Release, adapter_id: str, fingerprint: TaskFingerprint | None) -> Release:
    """Notes the task that an adapter was validated on."""
    if fingerprint is None:
        return release
    return replace(release, fingerprints={**release.fingerprints, adapter_id: fingerprint})


def pruned(change: Change) -> Change:
    """Returns the change without the fingerprints of adapters that the release does not name any more."""
    release = change.release
    kept = {adapter: each for adapter, each in release.fingerprints.items() if adapter in release.adapters}
    return replace(change, release=replace(release, fingerprints=kept))


def with_earlier(release: Release, history: Sequence[ReleaseChange]) -> Release:
    """Returns the release with its earlier champions, from the history where the state does not name them."""
    if release.earlier is not None:
        return release
    return replace(release, earlier=tuple(reversed(champions(history)[:-2])))


def roll_back(release: Release, *, reason: str, at: datetime) -> Change:
    """Takes back the challenger, or else brings back the previous champion."""
    if release.stage != "steady":
        return take_back(release, reason=reason, at=at)
    return return_to_previous(release, reason=reason, at=at)


def is_watched(release: Release) -> bool:
    """Whether the champion came out of a canary and is still watched."""
    return release.stage == "steady" and 0 < release.since_sequence < release.sequence


def is_under_way(release: Release) -> bool:
    """Whether ratings may change the release: a canary, an experiment, or a champion that is still watched."""
    return release.stage != "steady" or is_watched(release)


def leaves(release: Release) -> str | None:
    """Returns the adapter that a rollback would take out of service, or None where only the base model serves."""
    return release.champion if release.stage == "steady" else release.challenger


def since(history: Sequence[ReleaseChange], sequence: int) -> str:
    """Returns in words what has happened after a sequence, oldest first. ``history`` is newest first."""
    later = [each for each in reversed(history) if each.release.sequence > sequence]
    return "; ".join(_words(each) for each in later)


def last_of(history: Sequence[ReleaseChange], adapter_id: str) -> str | None:
    """Returns in words what last happened to an adapter, or None if the history does not name it."""
    roles = [_role(change.release, adapter_id) for change in history]
    changed = (
        change for change, role, before in zip(history, roles, [*roles[1:], None], strict=True) if role != before
    )
    newest = next(changed, None)
    return _words(newest) if newest is not None else None


def _role(release: Release, adapter_id: str) -> Stage | Literal["champion"] | None:
    if adapter_id == release.champion:
        return "champion"
    return release.stage if adapter_id == release.challenger else None


def champions(history: Sequence[ReleaseChange]) -> list[str | None]:
    """Returns the stack of champions that rollbacks would go back to, the current champion last.

    The first one is None, the base model alone. ``history`` is newest first. Each promotion pushes a champion, each
    rollback pops one.
    """
    stack: list[str | None] = [None]
    for change in reversed(history):
        if change.release.champion == stack[-1]:
            continue
        if change.event_type == AdapterRolledBack.type:
            stack.pop()
        else:
            stack.append(change.release.champion)
    return stack


def was_released(history: Sequence[ReleaseChange], adapter_id: str) -> bool:
    """Whether the adapter has ever answered users."""
    return any(adapter_id in (each.release.champion, each.release.challenger) for each in history)


def _words(change: ReleaseChange) -> str:
    release = change.release
    champion = release.champion or "the base model"
    if change.event_type == AdapterPromoted.type:
        what = f"{champion} was promoted"
    elif change.event_type == AdapterRolledBack.type:
        what = f"it was rolled back to {champion}"
    else:
        what = f"{release.challenger} answers {release.share:.0%} of the users"
    return f"sequence {release.sequence}: {what} ({release.reason or 'no reason given'})"


def _steady(release: Release, reason: str, at: datetime, **changed: str | None) -> Release:
    sequence = release.sequence + 1
    ended = {
        "challenger": None,
        "stage": "steady",
        "share": 0.0,
        "salt": "",
        "since_sequence": sequence,
        "since_at": at,
    }
    return _next(release, reason, at, **{**ended, **changed})


def _next(release: Release, reason: str, at: datetime, **changed: object) -> Release:
    return replace(release, sequence=release.sequence + 1, reason=reason, changed_at=at, held="", **changed)  # type: ignore[arg-type]  # fields of Release
