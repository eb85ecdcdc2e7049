"""Decides which message of a partition is next, and what to do with any other.

Around a rebalance Faust drops what it has fetched but not handed on, and sometimes continues behind it instead of
fetching it again. So this module holds the order of the offsets: a message that arrives too early is left until the
messages before it have been fetched again.
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
    PASSED = "leave it: it was delivered"
    AHEAD = "leave it: those before it have been asked for, and it comes again behind them"
    MISSING = "find out whether those before it exist"


class Positions(Generic[P]):
    """The next offset of each partition ``P`` of the present assignment. ``clock``: seconds, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next: dict[P, int] = {}
        self._asked_at: dict[P, float] = {}

    def forget(self) -> None:
        """After a rebalance: another member may have gone on meanwhile."""
        self._next.clear()
        self._asked_at.clear()

    def begin(self, partition: P, offset: int) -> None:
        """The next message of the partition is this one."""
        self._next[partition] = offset
        self._asked_at.pop(partition, None)

    def asked(self, partition: P, offset: int) -> None:
        """Kafka was asked for the partition from this offset on, which is its next message."""
        self._next[partition] = offset
        self._asked_at[partition] = self._clock()

    def next(self, partition: P) -> int | None:
        """The offset that must come next, or None before the partition has begun."""
        return self._next.get(partition)

    def arrived(self, partition: P, offset: int) -> Arrival:
        """Judges a message, and moves on if it is the next. The partition must have begun."""
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
