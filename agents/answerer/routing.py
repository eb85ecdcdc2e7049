"""Decides which adapter answers a question: the champion, or for a sticky share of the users the challenger."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.promotions import ReleaseEvent
from schemas.questions import Arm, QuestionAsked


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which arm answers, with which adapter (None: the base model alone), by which release."""

    arm: Arm = "champion"
    adapter_id: str | None = None
    sequence: int = 0


class ReleaseStates:
    """The latest release state of each task."""

    def __init__(self) -> None:
        self._latest: dict[str, ReleaseEvent] = {}

    def apply(self, event: ReleaseEvent) -> bool:
        """Returns whether the event is newer than the known one; others are ignored."""
        known = self._latest.get(event.task)
        if known is not None and event.sequence <= known.sequence:
            return False
        self._latest[event.task] = event
        return True

    @property
    def latest(self) -> Mapping[str, ReleaseEvent]:
        return dict(self._latest)


def choose(question: QuestionAsked, states: Mapping[str, ReleaseEvent]) -> Choice:
    """Chooses what answers a question. ``states``: the release of each task that has one."""
    return choose_arm(states.get(question.task), subject_of(question))


def choose_arm(state: ReleaseEvent | None, subject: str) -> Choice:
    """Chooses an arm: always the same one for a subject and a release; ``share`` of the subjects get the challenger."""
    if state is None:
        return Choice()
    if state.challenger is not None and state.stage != "steady" and _hash_position(state.salt, subject) < state.share:
        return Choice(arm="challenger", adapter_id=state.challenger, sequence=state.sequence)
    return Choice(adapter_id=state.champion, sequence=state.sequence)


def subject_of(question: QuestionAsked) -> str:
    """Returns whom a choice of arm sticks to: the user, or else the conversation, or else this question."""
    return question.user or question.session or question.question_id


def adapters_of(state: ReleaseEvent) -> tuple[str, ...]:
    """Returns the adapters that questions may use in this state."""
    named = (state.champion, state.challenger if state.stage != "steady" else None)
    return tuple(dict.fromkeys(each for each in named if each is not None))


def _hash_position(salt: str, subject: str) -> float:
    """Maps a subject to a number from 0 to 1; a new salt shuffles all subjects."""
    digest = hashlib.sha256(f"{salt}\x1f{subject}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
