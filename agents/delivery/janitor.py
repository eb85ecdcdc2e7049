"""Deletes what an agent keeps for a time only: old rows at one worker of the fleet, old files at every worker.

``docs/storage.md`` says what is kept how long, and what must outlive what. A deletion cannot be taken back, so the
janitor does not believe a clock that jumps ahead: its own time follows the clock at a limited speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from agents.delivery.outcome import Outcome, Output, RunRequest
from agents.delivery.ports import Leases
from agents.delivery.worker import Chore, Cleaner, Tick
from schemas.errors import Unavailable

log = structlog.get_logger()

CATCH_UP = 60
"""How many times faster than the clock the janitor's time may go, after the clock jumped or nothing ran for a while."""
TICK_SECONDS = 60.0
"""The longest time between two rounds."""
BEHIND = timedelta(days=1)
"""The janitor says when its time is further behind the clock than this."""


class Janitor:
    """The cleaners of one worker, and when each is due."""

    def __init__(
        self, agent: str, cleaners: Sequence[Cleaner], leases: Leases, *, clock: Callable[[], datetime]
    ) -> None:
        """``clock`` gives the earliest time that it may be."""
        self._cleaners = tuple(cleaners)
        self._leases, self._clock = leases, clock
        self._time_name = f"janitor/{agent}"
        self._done_at: dict[str, datetime] = {}
        self._is_behind = False
        self._every_seconds = min((each.every_seconds for each in cleaners), default=TICK_SECONDS)

    @property
    def tick(self) -> Tick:
        """Deletes what belongs to the whole fleet."""
        return Tick(name="janitor", every_seconds=self._every_seconds, handle=self._clean_for_all)

    @property
    def chore(self) -> Chore:
        """Deletes what lies on this machine."""
        return Chore(name="janitor", every_seconds=self._every_seconds, do=self._clean_here)

    async def _clean_for_all(self, scheduled: datetime) -> Outcome:
        now = min(scheduled, self._clock())
        time = self._follow(now, await asyncio.to_thread(self._leases.last, self._time_name))
        await self._clean(time, scheduled, everywhere=False)

        def effect() -> Sequence[Output | RunRequest]:
            self._leases.set_last(self._time_name, time)
            return ()

        return Outcome(effect=effect)

    async def _clean_here(self) -> None:
        known = await asyncio.to_thread(self._leases.last, self._time_name)
        if known is not None:
            now = self._clock()
            await self._clean(min(known, now), now, everywhere=True)

    def _follow(self, now: datetime, last: datetime | None) -> datetime:
        """Returns the janitor's time: the clock's, or less where the clock is too far ahead of the last round."""
        time = now if last is None else min(now, last + timedelta(seconds=CATCH_UP * self._every_seconds))
        behind = now - time > BEHIND
        if behind and not self._is_behind:
            log.info("the janitor catches up with the clock", clock=now.isoformat(), janitor=time.isoformat())
        self._is_behind = behind
        return time

    async def _clean(self, time: datetime, now: datetime, *, everywhere: bool) -> None:
        for cleaner in self._cleaners:
            done_at = self._done_at.get(cleaner.name)
            early = done_at is not None and done_at <= now < done_at + timedelta(seconds=cleaner.every_seconds)
            if cleaner.everywhere is not everywhere or early:
                continue
            self._done_at[cleaner.name] = now
            try:
                deleted = await asyncio.to_thread(cleaner.clean, time)
            except Unavailable as error:
                log.warning("waiting", cleaner=cleaner.name, reason=str(error))
            except Exception as error:  # noqa: BLE001  # the others go on, and the next round is the retry
                log.error("not deleted", cleaner=cleaner.name, error=f"{type(error).__name__}: {error}")
            else:
                if deleted:
                    log.info("deleted", cleaner=cleaner.name, count=deleted)
