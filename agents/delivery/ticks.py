"""Runs ticks: work that no event starts, at one worker of the fleet at a time, with journaled outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog

from agents.delivery.outbox import Cause, Outbox
from agents.delivery.outcome import Output, RunRequest
from agents.delivery.ports import Leases
from agents.delivery.worker import Tick
from schemas.envelope import EventContext, derived_id, identity
from schemas.errors import AlreadyJournaled, Unavailable

log = structlog.get_logger()

WAIT_SECONDS = 60.0
"""How long ticks wait, at most or for two periods, for a clock that was put back a little."""


def ticks_source(agent: str) -> str:
    """The CloudEvents source of an agent's ticks."""
    return f"/everlearn/{agent}/ticks"


def scheduled_time(now: datetime, every_seconds: float) -> datetime:
    """The latest multiple of the period that is not after ``now``; the same for every worker."""
    return datetime.fromtimestamp(now.timestamp() // every_seconds * every_seconds, tz=UTC)


class Ticker:
    """Runs the ticks of one agent's worker."""

    def __init__(self, outbox: Outbox, leases: Leases, *, holder: str, clock: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._leases = leases
        self._holder = holder
        self._clock = clock

    async def run(self, tick: Tick, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Runs a tick until cancelled. It does not catch up on times that were missed while no worker ran."""
        while True:
            try:
                await self.beat(tick)
            except AlreadyJournaled:
                pass  # another worker did this one after our lease had run out
            except Unavailable as error:
                log.warning("waiting", tick=tick.name, reason=str(error))
            except Exception as error:  # noqa: BLE001  # the next beat is the retry
                log.error("tick failed", tick=tick.name, error=f"{type(error).__name__}: {error}")
            await sleep(min(tick.every_seconds, 1.0))

    async def beat(self, tick: Tick) -> bool:
        """Handles the scheduled time if it is due and this worker gets the lease; returns whether it did.

        If the last scheduled time is far in the future, a clock was ahead then. The ticks start over at the present
        time, in a new generation: its ids differ from those of the same times in the generations before.
        """
        name = f"tick/{self._outbox.agent}/{tick.name}"
        now = self._clock()
        scheduled = scheduled_time(now, tick.every_seconds)
        last = await asyncio.to_thread(self._leases.last, name)
        ahead = last is not None and last - scheduled > timedelta(seconds=max(WAIT_SECONDS, 2 * tick.every_seconds))
        if last is not None and last >= scheduled and not ahead:
            return False
        lease_seconds = max(30.0, 2 * tick.every_seconds)
        if not await asyncio.to_thread(self._lease, name, now, lease_seconds):
            return False
        generation = await asyncio.to_thread(self._leases.generation, name)
        if ahead:
            log.warning("tick starts over", tick=tick.name, last=str(last), reason="the clock was put back")
            generation += 1
        outcome = await tick.handle(scheduled)

        def effect() -> Sequence[Output | RunRequest]:
            # Inside the transaction, so that a worker whose lease ran out does nothing twice. A tick without outputs
            # therefore needs no row in the journal.
            if ahead:
                first = self._leases.start_over(name, scheduled, generation)
            else:
                first = self._leases.set_last(name, scheduled)
            if not first:
                raise AlreadyJournaled(f"another worker has done the tick {tick.name} of {scheduled.isoformat()}")
            return outcome.effect() if outcome.effect is not None else ()

        in_generation = (generation,) if generation else ()
        event_id = derived_id(self._outbox.agent, tick.name, scheduled.isoformat(), *in_generation)
        context = EventContext(id=event_id, source=ticks_source(self._outbox.agent), time=scheduled)
        cause = Cause(identity=identity(context), context=context, comes_again=False)
        await self._outbox.settle([cause], [replace(outcome, effect=effect)], {})
        return True

    def _lease(self, name: str, now: datetime, seconds: float) -> bool:
        return self._leases.acquire(name, self._holder, now=now, seconds=seconds)
