"""Reports a worker on fleet.v1, and ends a worker that makes no progress although messages wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from agents.delivery.deliver import Delivery
from agents.delivery.ports import Publisher
from agents.delivery.worker import Worker
from schemas.envelope import EventContext, encode
from schemas.errors import Unavailable, plain
from schemas.fleet import Serving, WorkerReported, WorkerState

log = structlog.get_logger()

NEWS_SECONDS = 0.1
"""How soon a change of what is served is reported."""


class Stalled(Exception):
    """Messages wait, and the worker has made no progress for too long."""


class Hung(Stalled):
    """A batch has made no progress for too long, and not because it waits: its events may be the reason."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What the heartbeat reads of a worker that is built."""

    worker: Worker
    delivery: Delivery
    lag: Callable[[], Awaitable[int | None]]
    """Counts the messages that wait for this worker."""
    idle_seconds: Callable[[], float]
    """For how long no message has arrived; 0 while a batch is being handled."""
    run_waits: Callable[[], str | None] = lambda: None
    """Returns why a run waits, or None."""


class Heartbeat:
    """Reports how a worker is, and raises Stalled when it must be restarted."""

    def __init__(
        self,
        agent: str,
        name: str,
        publisher: Publisher,
        *,
        clock: Callable[[], datetime],
        every_seconds: float,
        stalled_after_seconds: float,
        starved_after_seconds: float,
    ) -> None:
        """Beats for a worker that is still being built; ``watch`` adds the worker.

        ``stalled_after_seconds``: how long one step of a batch may take. ``starved_after_seconds``: how long no message
        may arrive although messages wait, as happens to a consumer that has left its group.
        """
        self._agent = agent
        self._name = name
        self._publisher = publisher
        self._clock = clock
        self._every_seconds = every_seconds
        self._stalled_after_seconds = stalled_after_seconds
        self._starved_after_seconds = starved_after_seconds
        self._starving_since: float | None = None
        self._watched: Watched | None = None
        self.state: WorkerState = "starting"

    def watch(self, watched: Watched) -> None:
        """Reports this worker from now on."""
        self._watched = watched

    async def run(self) -> None:
        """Beats until cancelled; raises Stalled."""
        while True:
            lag = await self._measure_lag()
            self._check_progress(lag)
            await self._report(lag)
            await self._until_next_beat(self._served())

    async def become(self, state: WorkerState) -> None:
        """Changes the state and reports it at once."""
        self.state = state
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._report(None), 2)

    async def _report(self, lag: int | None) -> None:
        try:
            await self.beat(lag)
        except Unavailable:
            pass  # whoever publishes events says so
        except Exception as error:  # noqa: BLE001  # a report that cannot be made must not end a worker that works
            log.error("not reported", worker=self._name, error=f"{type(error).__name__}: {error}")

    async def beat(self, lag: int | None) -> None:
        """Publishes one report. Raises Unavailable."""
        watched = self._watched
        waiting = watched.delivery.waiting if watched is not None else None
        problem = watched.run_waits() or watched.worker.problem() if watched is not None else None
        event = WorkerReported(
            worker=self._name,
            agent=self._agent,
            host=socket.gethostname(),
            pid=os.getpid(),
            state="waiting" if waiting and self.state == "ready" else self.state,
            lag=lag,
            serves=self._served(),
            detail=plain(waiting or problem or "") or None,
        )
        context = EventContext(id=str(uuid.uuid4()), source=f"/everlearn/{self._agent}", time=self._clock())
        await self._publisher.publish([encode(event, context)])

    async def _until_next_beat(self, served: tuple[Serving, ...]) -> None:
        """Sleeps until the next beat is due, or until the worker serves something else than it reported last."""
        changes = self._watched is not None and self._watched.worker.serves is not None
        pause = NEWS_SECONDS if changes else self._every_seconds
        due = time.monotonic() + self._every_seconds
        while (left := due - time.monotonic()) > 0 and self._served() == served:  # noqa: ASYNC110  # serves() is a plain getter
            await asyncio.sleep(min(left, pause))

    def _served(self) -> tuple[Serving, ...]:
        if self._watched is None or self._watched.worker.serves is None:
            return ()
        return tuple(self._watched.worker.serves())

    async def _measure_lag(self) -> int | None:
        if self.state != "ready" or self._watched is None:
            return None
        try:
            return await asyncio.wait_for(self._watched.lag(), 5)
        except Exception as error:  # noqa: BLE001  # Faust's consumer raises many things while Kafka is away
            log.debug("lag unknown", error=f"{type(error).__name__}: {error}")
            return None

    def _check_progress(self, lag: int | None) -> None:
        watched = self._watched
        if watched is None or not lag or watched.delivery.waiting:
            self._starving_since = None
            return
        now = time.monotonic()
        still = now - max(watched.delivery.progressed_at, watched.worker.moved_at())
        if watched.idle_seconds() == 0:
            self._starving_since = None
            if still > self._stalled_after_seconds:
                raise Hung(f"{lag} messages wait and a batch has not moved for {still:.0f} s")
            return
        # Count from when the lag was first seen: a message that has just arrived is no reason to restart.
        self._starving_since = self._starving_since or now
        starved = min(now - self._starving_since, watched.idle_seconds())
        if starved > self._starved_after_seconds:
            raise Stalled(f"{lag} messages wait and none has arrived for {starved:.0f} s")
