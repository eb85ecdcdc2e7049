"""Decides which message of a partition is next, and what to do with any other.

Around a rebalance Faust drops messages that it has fetched but not handed on, and sometimes continues after them
instead of fetching them again. So this module keeps the order of the offsets: a message that arrives too early is not
delivered until the messages before it have been fetched again.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

ASK_AGAIN_SECONDS = 2.0

P = TypeVar("P", bound=Hashable)


class Arrival(enum.Enum):
    """What to do with a message that arrived."""

    NEXT = "deliver it"
    PASSED = "ignore it: it was delivered"
    AHEAD = "ignore it: the messages before it are being fetched again, and it arrives again after them"
    MISSING = "find out whether the messages before it exist"


class Positions(Generic[P]):
    """The next offset of each partition ``P`` of the present assignment. ``clock``: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next: dict[P, int] = {}
        self._asked_at: dict[P, float] = {}

    def forget(self) -> None:
        """Forgets all offsets, after a rebalance: another member may have handled messages since."""
        self._next.clear()
        self._asked_at.clear()

    def begin(self, partition: P, offset: int) -> None:
        """Sets the next offset of a partition."""
        self._next[partition] = offset
        self._asked_at.pop(partition, None)

    def asked(self, partition: P, offset: int) -> None:
        """Sets the next offset of a partition, from which Kafka was asked to send again."""
        self._next[partition] = offset
        self._asked_at[partition] = self._clock()

    def next(self, partition: P) -> int | None:
        """Returns the offset that must arrive next, or None before the partition has begun."""
        return self._next.get(partition)

    def arrived(self, partition: P, offset: int) -> Arrival:
        """Decides what to do with a message, and moves on if it is the next. The partition must have begun."""
        expected = self._next[partition]
        if offset < expected:
            return Arrival.PASSED
        if offset == expected:
            self.begin(partition, offset + 1)
            return Arrival.NEXT
        asked_at = self._asked_at.get(partition)
        if asked_at is not None and self._clock() - asked_at < ASK_AGAIN_SECONDS:
            return Arrival.AHEAD
        return Arrival.MISSING
