"""Compares promotions.v1 with the release states in SQL, and publishes again what the topic does not say last.

The topic loses releases when a home gets a new Kafka or the topic is made anew, and it ends with an earlier state when
two promoters publish out of order. The answerers know nothing but the topic.
"""

from __future__ import annotations

from collections.abc import Sequence

from agents.delivery.outcome import Output
from agents.promoter.changes import announced
from agents.promoter.ports import Log, Releases, ReleaseStore
from schemas.envelope import Received
from schemas.event import Event
from schemas.promotions import ReleaseEvent


class PublishedReleases:
    """What promotions.v1 says last about each task, as this worker has read it."""

    def __init__(self, releases: ReleaseStore, *, log: Log) -> None:
        self._releases, self._log = releases, log
        self._last: dict[str, int] = {}
        self._behind: dict[str, int] = {}
        """The releases that the topic did not have when it was compared last; they may have been on their way."""

    async def follow(self, received: Received[Event]) -> None:
        """Remembers what the topic says last."""
        if isinstance(received.event, ReleaseEvent):
            self._last[received.event.task] = received.event.sequence

    def again(self) -> Sequence[Output]:
        """Inside a transaction: returns the releases that the topic still does not have, one comparison later."""
        behind = _behind(self._releases, self._last)
        lost = sorted(task for task, sequence in behind.items() if self._behind.get(task) == sequence)
        self._behind = behind
        if not lost:
            return ()
        self._releases.lock(lost)
        outputs = []
        for task in lost:
            change = self._releases.history(task, 1)[0]
            self._log("release published again", task=task, sequence=change.release.sequence)
            outputs.append(Output(event=announced(change), time=change.at))
        return outputs


def _behind(releases: Releases, last: dict[str, int]) -> dict[str, int]:
    states = {release.task: release.sequence for release in releases.all()}
    return {task: sequence for task, sequence in states.items() if sequence and last.get(task) != sequence}
