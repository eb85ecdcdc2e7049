"""Changes releases: reads the state, decides and writes, all inside the journal's transaction.

Other promoters wait for the lock on the task's release, and a repeated decision reads the state again. So any number of
promoters, redeliveries and crashes lead to one history, with one event for each sequence number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from agents.delivery.outcome import Output
from agents.promoter import changes
from agents.promoter.canary import CanaryVerdict, is_watched, judge_canary, judge_champion
from agents.promoter.changed_tasks import next_step
from agents.promoter.changes import Change
from agents.promoter.ports import Log, ReleaseStore
from schemas.errors import InvalidEvent
from schemas.policies import PromoterPolicy
from schemas.release_state import Release
from schemas.tasks import TaskFingerprint, differences


class ReleaseController:
    """Each method runs inside a transaction and returns the events of what it changed."""

    def __init__(
        self,
        releases: ReleaseStore,
        policy_of: Callable[[str], PromoterPolicy],
        *,
        now: Callable[[], datetime],
        log: Log,
        rollbacks: int = 5,
        task_of: Callable[[str], TaskFingerprint | None] = lambda _: None,
    ) -> None:
        """``policy_of`` gives the policy of a task. ``rollbacks``: how many earlier champions stay known.

        ``task_of`` gives the fingerprint of a task as it is now, or None if it is not configured.
        """
        self._releases, self._policy_of, self._now, self._log = releases, policy_of, now, log
        self._rollbacks, self._task_of = rollbacks, task_of

    def consider(
        self, task: str, adapter_id: str, cause: str, *, fingerprint: TaskFingerprint | None = None
    ) -> Sequence[Output]:
        """Starts the canary of a validated adapter, or lets it wait for the end of another canary.

        It takes the place of a canary that holds, and of an adapter that waits. An adapter that was ever released is
        not considered again, unless it fell because its task was replaced. ``fingerprint``: the task that the adapter
        was validated on.
        """
        self._refuse_other_task(task, adapter_id, fingerprint)
        release = changes.with_fingerprint(self._releases.current(task), adapter_id, fingerprint)
        if release.champion == adapter_id and fingerprint is not None:
            self._log("champion was validated again", task=task, adapter=adapter_id)
            self._releases.amend(release)
            return ()
        if adapter_id != release.fallen and changes.was_released(self._releases.history(task), adapter_id):
            self._log("adapter was released before", task=task, adapter=adapter_id)
            return ()
        if release.stage == "steady" or (release.stage == "canary" and release.held):
            return self._apply([self._canary(release, adapter_id)], cause)
        self._log("adapter waits for a canary to end", task=task, adapter=adapter_id, instead_of=release.waiting)
        self._releases.amend(replace(release, waiting=adapter_id))
        return ()

    def promote(
        self,
        task: str,
        adapter_id: str,
        reason: str,
        cause: str,
        *,
        seen: int | None = None,
        fingerprint: TaskFingerprint | None = None,
    ) -> Sequence[Output]:
        """Serves a request: lets the adapter answer all users. ``seen``: the release that its author saw."""
        release = self._releases.current(task)
        if release.champion == adapter_id:
            self._log("adapter is the champion already", task=task, adapter=adapter_id)
            return ()
        self._refuse_stale(release, seen)
        self._refuse_other_task(task, adapter_id, fingerprint)
        release = changes.with_fingerprint(release, adapter_id, fingerprint)
        return self._apply([self._promotion(release, adapter_id, reason)], cause)

    def experiment(
        self,
        task: str,
        adapter_id: str,
        share: float,
        cause: str,
        *,
        seen: int | None = None,
        fingerprint: TaskFingerprint | None = None,
    ) -> Sequence[Output]:
        """Serves a request: lets the adapter answer a share of the users until it is judged."""
        release = self._releases.current(task)
        self._refuse_stale(release, seen)
        self._refuse_other_task(task, adapter_id, fingerprint)
        release = changes.with_fingerprint(release, adapter_id, fingerprint)
        if release.champion == adapter_id:
            raise InvalidEvent(f"{adapter_id} is the champion of {task} already: compare it with another adapter")
        reason = f"an experiment with {share:.0%} of the users was asked for"
        if release.challenger is not None and release.challenger != adapter_id:
            reason += f"; it ends the canary of {release.challenger}"
        at = self._time(release)
        change = changes.start(release, adapter_id, stage="experiment", share=share, reason=reason, at=at)
        return self._apply([change], cause)

    def roll_back(
        self, task: str, reason: str, cause: str, *, adapter_id: str | None = None, seen: int | None = None
    ) -> Sequence[Output]:
        """Serves a request: takes back a canary that is under way, or else the champion.

        ``adapter_id``: the adapter that its author meant. ``seen``: the release that they saw.
        """
        release = self._releases.current(task)
        self._refuse_stale(release, seen)
        leaves = changes.leaves(release)
        if adapter_id is not None and adapter_id != leaves:
            since = changes.last_of(self._releases.history(task), adapter_id)
            raise InvalidEvent(
                f"{adapter_id} of {task} is not what a rollback would take back, {leaves or 'the base model'} is; "
                + (f"last of it: {since}" if since else "the history names no release of it")
            )
        if leaves is None:
            raise InvalidEvent(f"there is nothing to roll back: {task} is served by the base model alone")
        return self._apply([self._return(release, reason)], cause)

    def evaluate(self, tasks: Collection[str] | None, cause: str) -> Sequence[Output]:
        """Judges canaries, experiments and watched champions of these tasks, or of all tasks."""
        under_way = sorted(each.task for each in self._releases.all() if _is_under_way(each))
        busy = [task for task in under_way if tasks is None or task in tasks]
        if not busy:
            return ()
        self._releases.lock(busy)
        return [output for task in busy for output in self._evaluate(task, cause)]

    def follow_tasks(self, cause: str) -> Sequence[Output]:
        """Compares the released adapters with their tasks as they are now."""
        changed = sorted(each.task for each in self._releases.all() if self._next_step(each) is not None)
        if not changed:
            return ()
        self._releases.lock(changed)
        return [output for task in changed for output in self._follow_task(task, cause)]

    def lock(self, tasks: Iterable[str]) -> None:
        """Locks the releases of several tasks in a fixed order, before they are changed in one transaction."""
        self._releases.lock(tasks)

    def _refuse_stale(self, release: Release, seen: int | None) -> None:
        """Raises InvalidEvent if the release is not the one that a request's author saw."""
        if seen is None or seen == release.sequence:
            return
        if seen > release.sequence:
            raise InvalidEvent(
                f"the request names release {seen} of {release.task}, and {release.sequence} is the newest: "
                "see 'everlearn status'"
            )
        since = changes.since(self._releases.history(release.task, limit=changes.SHOWN), seen)
        raise InvalidEvent(
            f"the release of {release.task} has changed since sequence {seen}, which the request names: {since}; "
            "look at it and ask again"
        )

    def _refuse_other_task(self, task: str, adapter_id: str, fingerprint: TaskFingerprint | None) -> None:
        """Raises InvalidEvent if the adapter would fall back as soon as it serves."""
        present = self._task_of(task)
        if present is None or fingerprint is None or self._policy_of(task).task_changed == "keep":
            return
        reasons = [str(each) for each in differences(fingerprint, present) if each.replaces]
        if reasons:
            raise InvalidEvent(
                f"{adapter_id} was validated on another task {task} than this promoter knows ({'; '.join(reasons)}): "
                "if everlearn.toml was changed, restart the agents, then run 'everlearn dlq retry'; else train again"
            )

    def _next_step(self, release: Release) -> Change | Release | None:
        present = self._task_of(release.task)
        if present is None or release.sequence == 0:
            return None
        return next_step(release, present, self._policy_of(release.task), self._time(release))

    def _follow_task(self, task: str, cause: str) -> Iterator[Output]:
        while (step := self._next_step(release := self._releases.current(task))) is not None:
            if isinstance(step, Change):
                self._log("task was changed", task=task, champion=release.champion, reason=step.release.reason)
                yield from self._apply([step], cause)
            else:
                self._releases.amend(step)

    def _evaluate(self, task: str, cause: str) -> Sequence[Output]:
        release = self._releases.current(task)
        if not _is_under_way(release):
            return ()
        counts = self._releases.counts(task, sequence=release.since_sequence)
        judge = judge_champion if is_watched(release) else judge_canary
        return self._apply(self._steps(release, judge(release, counts, self._policy_of(task), self._now())), cause)

    def _steps(self, release: Release, verdict: CanaryVerdict) -> list[Change]:
        at, reason = self._time(release), verdict.reason
        if verdict.step == "advance":
            return [changes.advance(release, share=verdict.share, reason=reason, at=at)]
        if verdict.step == "promote" and release.challenger is not None:
            return [self._promotion(release, release.challenger, reason)]
        if verdict.step == "roll back":
            return [self._return(release, reason)]
        if verdict.step == "hold" and release.stage == "canary" and release.waiting is not None:
            return [self._canary(replace(release, held=reason), release.waiting)]
        if verdict.step == "hold" and not release.held:
            self._log("canary holds", task=release.task, adapter=release.challenger, reason=reason)
        if verdict.step == "hold" and reason != release.held:
            self._releases.amend(replace(release, held=reason))
        if verdict.step == "end watch":
            self._releases.amend(replace(release, since_sequence=release.sequence, since_at=release.changed_at))
        return []

    def _return(self, release: Release, reason: str) -> Change:
        return changes.roll_back(self._with_earlier(release), reason=reason, at=self._time(release))

    def _promotion(self, release: Release, adapter_id: str, reason: str) -> Change:
        return changes.promote(
            self._with_earlier(release), adapter_id, reason=reason, at=self._time(release), rollbacks=self._rollbacks
        )

    def _with_earlier(self, release: Release) -> Release:
        if release.earlier is not None:
            return release  # the usual case, which reads no history
        return changes.with_earlier(release, self._releases.history(release.task))

    def _canary(self, release: Release, adapter_id: str) -> Change:
        share = self._policy_of(release.task).shares[0]
        reason = f"the adapter was validated; it answers {share:.0%} of the users"
        if release.stage != "steady":
            reason += f"; it takes the place of {release.challenger}, which {release.held or 'held'}"
        at = self._time(release)
        return changes.start(release, adapter_id, stage="canary", share=share, reason=reason, at=at)

    def _apply(self, steps: Iterable[Change], cause: str) -> list[Output]:
        """Stores the changes, and starts the canary that waited for them."""
        return [self._write(change, cause) for step in steps for change in self._with_waiting(step)]

    def _with_waiting(self, change: Change) -> Iterator[Change]:
        yield change
        release = change.release
        if release.stage == "steady" and release.waiting is not None:
            yield self._canary(release, release.waiting)

    def _write(self, change: Change, cause: str) -> Output:
        change = changes.pruned(change)
        release = change.release
        self._releases.change(release, event_type=change.kind.type, cause=cause, at=change.at)
        self._log(
            "released",
            task=release.task,
            sequence=release.sequence,
            event_type=change.kind.type,
            champion=release.champion,
            challenger=release.challenger,
            share=release.share,
            reason=release.reason,
        )
        return Output(event=change.event, time=change.at)

    def _time(self, release: Release) -> datetime:
        """Returns now, or the last change's time if a clock is behind: the history must stay in order."""
        return max(self._now(), release.changed_at) if release.changed_at else self._now()


def _is_under_way(release: Release) -> bool:
    return release.stage != "steady" or is_watched(release)
