"""Judges times while the clock may jump: no jump makes an event look as if it came from the future, or a row old."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta


class SteadyClock:
    """Compares the wall clock with the time that has passed since the start, which no setting of the clock changes."""

    def __init__(self, wall: Callable[[], datetime], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._began = wall()
        self._began_at = monotonic()
        self._least = self._began

    def has_been(self, moment: datetime) -> None:
        """Notes that this moment has passed, as a clock showed before this process started."""
        self._least = max(self._least, moment)

    def latest(self) -> datetime:
        """Returns the latest time that it may be: a clock that was put back does not count."""
        return max(self._wall(), self._passed(), self._least)

    def earliest(self) -> datetime:
        """Returns the earliest time that it may be: a clock that was put forward does not count."""
        return min(self._wall(), self._passed())

    def _passed(self) -> datetime:
        return self._began + timedelta(seconds=self._monotonic() - self._began_at)
