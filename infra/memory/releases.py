"""The in-memory twin of ``infra.sql.releases``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from typing import Any

from infra.memory.database import MemoryDatabase, in_utc
from schemas.errors import Unavailable
from schemas.guardrails import guarded, step_of
from schemas.questions import Arm
from schemas.release_state import RELEASE, ArmCounts, Release, ReleaseChange


class MemoryReleases:
    """Stores which adapter each task is served with."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def lock(self, tasks: Iterable[str]) -> None:
        """Does nothing: a transaction of this twin locks everything."""

    def current(self, task: str) -> Release:
        """Returns a task's release, with sequence 0 where there is none yet."""
        with self._database.table("releases") as releases:
            return releases.get(task) or Release(task=task)

    def all(self) -> list[Release]:
        """Returns the release of every task that has one."""
        with self._database.table("releases") as releases:
            return list(releases.values())

    def change(self, release: Release, *, event_type: str, cause: str | None, at: datetime) -> None:
        """Inside a transaction: writes the next state and a line of the history.

        Raises Unavailable when the sequence before it is not the current one: read again and decide again.
        """
        kept = self._put(release, release.sequence - 1)
        line = ReleaseChange(release=kept, event_type=event_type, cause=cause, at=in_utc(at))
        with self._database.table("release_history") as history:
            history[release.task, release.sequence] = line

    def amend(self, release: Release) -> None:
        """Inside a transaction: changes the current state without an event and without a line of the history.

        Raises Unavailable when the sequence is not the current one.
        """
        self._put(release, release.sequence)

    def history(self, task: str, limit: int | None = None) -> list[ReleaseChange]:
        """Returns the changes of a task's release, newest first."""
        with self._database.table("release_history") as history:
            lines = [line for (owner, _), line in history.items() if owner == task]
        return sorted(lines, key=lambda line: line.release.sequence, reverse=True)[:limit]

    def prune_history(self, task: str, *, below: int, before: datetime) -> int:
        """Deletes the changes below a sequence that were made before a time; returns how many."""
        before = in_utc(before)
        with self._database.table("release_history") as history:
            old = [key for key, line in history.items() if key[0] == task and key[1] < below and line.at < before]
            for key in old:
                del history[key]
        return len(old)

    def prune_tallies(self, task: str, *, below: int) -> int:
        """Does nothing: this twin counts the rows."""
        return 0

    def counts(self, task: str, *, sequence: int) -> list[ArmCounts]:
        """Counts the users of each release and arm from a sequence on, each user once."""
        found: dict[tuple[int, Arm], dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for row in self._tallied(task):
            if row.release_sequence >= sequence:
                users = found[row.release_sequence, row.arm]
                if row.outcome in ("approved", "disapproved", "corrected"):
                    users[row.rater].update(rated=1, bad=int(row.outcome != "approved"))
                answered = row.finish_reason != "retrieve_only" and row.outcome != "failed"
                facts = {"asked": 1, "failed": int(row.outcome == "failed"), "answered": int(answered)}
                users[row.asker].update({**facts, **guarded(row)})
        return [_counts(of, arm, found[of, arm].values()) for of, arm in sorted(found)]

    def _tallied(self, task: str) -> Iterator[Any]:
        """Yields the rows that have a release and an arm."""
        with self._database.table("interactions") as rows:
            for row in rows.values():
                released = row.release_sequence is not None and row.arm is not None
                if row.task == task and row.answered_at is not None and released:
                    yield row

    def _put(self, release: Release, sequence: int) -> Release:
        kept = RELEASE.validate_python(RELEASE.dump_python(release, mode="json"))
        with self._database.table("releases") as releases:
            current = releases.get(release.task) or Release(task=release.task)
            if current.sequence != sequence:
                raise Unavailable(f"another process changed the release of {release.task}: try again")
            releases[release.task] = kept
        return kept


def _counts(sequence: int, arm: Arm, users: Collection[Counter[str]]) -> ArmCounts:
    asked, rated, answered = ([user for user in users if user[name]] for name in ("asked", "rated", "answered"))
    return ArmCounts(
        sequence=sequence,
        arm=arm,
        asked=len(asked),
        failed=sum(user["failed"] / user["asked"] for user in asked),
        judged=len(rated),
        bad=sum(user["bad"] / user["rated"] for user in rated),
        answered=len(answered),
        declined=sum(user["declined"] / user["answered"] for user in answered),
        asked_back=sum(user["asked_back"] / user["answered"] for user in answered),
        slowness=_steps(answered, "latency_ms"),
        length=_steps(answered, "characters"),
    )


def _steps(answered: Iterable[Counter[str]], name: str) -> dict[int, int]:
    steps = Counter(step_of(user[name] // user["answered"]) for user in answered)
    return dict(sorted(steps.items()))
