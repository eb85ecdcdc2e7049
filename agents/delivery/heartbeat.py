"""The worker's sign of life on fleet.v1, and the watchdog that ends a worker whose lag stands still."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from agents.delivery.deliver import Delivery
from agents.delivery.ports import Publisher
from agents.delivery.worker import Worker
from schemas.envelope import EventContext, encode
from schemas.errors import Unavailable
from schemas.fleet import Serving, WorkerReported, WorkerState

log = structlog.get_logger()

NEWS_SECONDS = 0.1
"""How soon a change of what is served is told."""


class Stalled(Exception):
    """Messages wait and nothing has moved for too long."""


class Heartbeat:
    """Reports how a worker is, and raises Stalled when it must be restarted."""

    def __init__(
        self,
        worker: Worker,
        name: str,
        publisher: Publisher,
        delivery: Delivery,
        lag: Callable[[], Awaitable[int | None]],
        idle_seconds: Callable[[], float],
        *,
        clock: Callable[[], datetime],
        every_seconds: float,
        stalled_after_seconds: float,
        starved_after_seconds: float,
    ) -> None:
        """``stalled_after_seconds``: how long one step of a batch may take. ``starved_after_seconds``: how long no
        message may arrive although messages wait; a consumer that fell out of its group with full buffers ends so.
        """
        self._worker = worker
        self._name = name
        self._publisher = publisher
        self._delivery = delivery
        self._lag = lag
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._every_seconds = every_seconds
        self._stalled_after_seconds = stalled_after_seconds
        self._starved_after_seconds = starved_after_seconds
        self._starving_since: float | None = None
        self.state: WorkerState = "starting"

    async def run(self) -> None:
        """Beats until cancelled; raises Stalled."""
        while True:
            lag = await self._measure_lag()
            self._watch(lag)
            with contextlib.suppress(Unavailable):
                await self.beat(lag)
            await self._until_next(self._served())

    async def _until_next(self, served: tuple[Serving, ...]) -> None:
        """Sleeps until the next beat is due, or something else is served than was told last: that is news at once."""
        pause = NEWS_SECONDS if self._worker.serves is not None else self._every_seconds
        due = time.monotonic() + self._every_seconds
        while (left := due - time.monotonic()) > 0 and self._served() == served:  # noqa: ASYNC110  # what is served is asked, not told
            await asyncio.sleep(min(left, pause))

    def _served(self) -> tuple[Serving, ...]:
        return tuple(self._worker.serves()) if self._worker.serves is not None else ()

    async def become(self, state: WorkerState) -> None:
        """Changes the state and says so at once."""
        self.state = state
        with contextlib.suppress(Unavailable, TimeoutError):
            await asyncio.wait_for(self.beat(None), 2)

    async def beat(self, lag: int | None) -> None:
        waiting = self._delivery.waiting
        event = WorkerReported(
            worker=self._name,
            agent=self._worker.agent,
            host=socket.gethostname(),
            pid=os.getpid(),
            state="waiting" if waiting and self.state == "ready" else self.state,
            lag=lag,
            serves=self._served(),
            detail=waiting or self._worker.problem(),
        )
        context = EventContext(id=str(uuid.uuid4()), source=f"/everlearn/{self._worker.agent}", time=self._clock())
        await self._publisher.publish([encode(event, context)])

    async def _measure_lag(self) -> int | None:
        if self.state != "ready":
            return None
        try:
            return await asyncio.wait_for(self._lag(), 5)
        except Exception as error:  # noqa: BLE001  # Faust's consumer raises many things while Kafka is away
            log.debug("lag unknown", error=f"{type(error).__name__}: {error}")
            return None

    def _watch(self, lag: int | None) -> None:
        if not lag or self._delivery.waiting:
            self._starving_since = None
            return
        now = time.monotonic()
        still = now - max(self._delivery.progressed_at, self._worker.moved_at())
        if self._idle_seconds() == 0:
            self._starving_since = None
            if still > self._stalled_after_seconds:
                raise Stalled(f"{lag} messages wait and a batch has not moved for {still:.0f} s")
            return
        # Counted from when the lag was first seen: a message that has only just come starves nobody.
        self._starving_since = self._starving_since or now
        starved = min(now - self._starving_since, self._idle_seconds())
        if starved > self._starved_after_seconds:
            raise Stalled(f"{lag} messages wait and none has arrived for {starved:.0f} s")
