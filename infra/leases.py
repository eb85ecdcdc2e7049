"""Decides when a lease has expired and when work is due, so that no clock that is wrong or jumps decides it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from datetime import UTC, datetime, timedelta

AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
"""When new work is due: at once, whatever the clocks of other workers say."""
LONGEST_PAUSE = timedelta(minutes=5)
"""Work that is due later than this was put off by a clock that was ahead."""


class SeenLeases:
    """The leases that one worker has seen others hold, and since when it has seen each without a renewal.

    Clocks of machines differ and jump. So the end of a lease is not compared with a clock. It only shows whether the
    lease was renewed since this worker looked last, and the time in between is measured here.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since: dict[str, tuple[Hashable, float]] = {}

    def expired(self, held: Mapping[str, Hashable], seconds: float) -> set[str]:
        """Returns which leases were not renewed for so long. ``held``: what a renewal changes, for each lease held."""
        now = self._monotonic()
        self._since = {
            name: known if (known := self._since.get(name)) is not None and known[0] == state else (state, now)
            for name, state in held.items()
        }
        return {name for name, (_, since) in self._since.items() if now - since >= seconds}


def is_due(due_at: datetime, now: datetime) -> bool:
    """Returns whether queued work may be done."""
    return due_at <= now or due_at - now > LONGEST_PAUSE
