"""Runs a worker from its start to its end: build it, follow, consume, report, and stop within a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from agents.delivery.deliver import Delivery, RetryPolicy
from agents.delivery.faust_app import StreamSettings
from agents.delivery.follow import follow
from agents.delivery.heartbeat import Heartbeat, Watched
from agents.delivery.in_flight import InFlightTracker
from agents.delivery.janitor import Janitor
from agents.delivery.outbox import OnStep, Outbox, no_hook
from agents.delivery.ports import (
    Database,
    InFlightMarks,
    Journal,
    Leases,
    MessageLookup,
    Publisher,
    RunStore,
    TopicReader,
)
from agents.delivery.runs import Runner, runs_source
from agents.delivery.stream import Stream
from agents.delivery.ticks import Ticker, ticks_source
from agents.delivery.worker import Build, Chore, Cleaner, Worker
from schemas.delivery import Message
from schemas.errors import Unavailable

log = structlog.get_logger()

FAILED_CHORE_SECONDS = 30.0
"""How long a failed chore waits before its next attempt, so that the log does not fill with one reason."""


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """The parts that every worker needs, whatever its agent."""

    database: Database
    journal: Journal
    marks: InFlightMarks
    runs: RunStore
    leases: Leases
    publisher: Publisher
    reader: TopicReader
    lookup: MessageLookup
    stream: StreamSettings
    scratch: Path
    """An existing folder for runs and for Faust."""
    heartbeat_seconds: float = 2.0
    stalled_after_seconds: float = 900.0
    shutdown_seconds: float = 10.0
    cleaners: Callable[[str], Sequence[Cleaner]] = lambda agent: ()
    """Returns what deletes the old rows and files that every agent has, for one agent."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_step: OnStep = no_hook


async def run_worker(agent: str, build: Build, parts: WorkerParts, name: str, *, instance: str | None = None) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the process's exit code: 0 after a signal, 1 after a failure.

    ``build`` makes the worker, in a thread, while the heartbeat already reports that it is starting; it is called again
    after Unavailable. ``name`` is the worker's key on fleet.v1. ``instance`` is a name that no other running worker
    has; with it, a restarted worker gets its partitions back at once. Raises what ``build`` raises, except
    Unavailable.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    life = _Life(agent, build, parts, name, instance)
    try:
        code = await life.live(stop)
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(life.end(), 2 * parts.shutdown_seconds + 5)
    log.info("stopped", worker=name, code=code)
    return code


class _Life:
    """One life of one worker."""

    def __init__(self, agent: str, build: Build, parts: WorkerParts, name: str, instance: str | None) -> None:
        self._agent = agent
        self._build = build
        self._parts = parts
        self._name = name
        self._instance = instance
        self._worker: Worker | None = None
        self._stream: Stream | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._outbox = Outbox(
            agent, database=parts.database, journal=parts.journal, runs=parts.runs, publisher=parts.publisher,
            clock=parts.clock, on_step=parts.on_step,
        )  # fmt: skip
        self._heartbeat = Heartbeat(
            agent, name, parts.publisher, clock=parts.clock, every_seconds=parts.heartbeat_seconds,
            stalled_after_seconds=parts.stalled_after_seconds,
            starved_after_seconds=2 * parts.stream.session_timeout_seconds,
        )  # fmt: skip

    async def live(self, stop: asyncio.Event) -> int:
        stopping = asyncio.ensure_future(stop.wait())
        preparing = asyncio.ensure_future(self._prepare())
        try:
            return await self._watch(stopping, preparing)
        finally:
            stopping.cancel()
            preparing.cancel()

    async def _prepare(self) -> None:
        # A wrong configuration ends the worker even while Kafka or SQL is away, so neither waits for the other.
        _, worker = await asyncio.gather(self._report(), self._built())
        self._worker = worker
        stream = self._stream = self._stream_of(worker)
        caught_up = []
        for follower in worker.followers:
            event = asyncio.Event()
            caught_up.append(event.wait())
            self._begin(follow(follower, self._parts.reader, clock=self._parts.clock, caught_up=event))
        await asyncio.gather(*caught_up)
        await stream.start()
        await stream.assigned.wait()
        self._begin_ticks_and_runs(worker)

    async def _report(self) -> None:
        """Begins the heartbeat as soon as SQL answers and Kafka confirms."""
        await self._until_available(self._reach)
        self._begin(self._heartbeat.run())

    async def _reach(self) -> None:
        await asyncio.to_thread(self._parts.journal.find, self._agent, ["-"])
        await self._heartbeat.beat(None)

    async def _built(self) -> Worker:
        built: list[Worker] = []

        async def attempt() -> None:
            built.append(await asyncio.to_thread(self._build))

        await self._until_available(attempt)
        return built[0]

    def _stream_of(self, worker: Worker) -> Stream:
        parts = self._parts
        in_flight = InFlightTracker(
            worker.agent, parts.marks, life=uuid.uuid4().hex, clock=parts.clock, crashes=parts.retry.crashes
        )
        delivery = Delivery(
            worker.dispatch(), self._outbox, in_flight, clock=parts.clock, policy=parts.retry, on_step=parts.on_step
        )
        stream = Stream(
            worker.agent, worker.topics, delivery.deliver, batch_size=worker.batch_size,
            batch_bytes=worker.batch_bytes, settings=parts.stream, scratch=parts.scratch / "faust",
            lookup=parts.lookup, instance=self._instance, on_assigned=in_flight.forget, on_acked=self._acked,
        )  # fmt: skip
        self._heartbeat.watch(
            Watched(worker=worker, delivery=delivery, lag=stream.lag, idle_seconds=stream.idle_seconds)
        )
        return stream

    def _begin_ticks_and_runs(self, worker: Worker) -> None:
        parts = self._parts
        ticker = Ticker(self._outbox, parts.leases, holder=self._name, clock=parts.clock)
        for tick in worker.ticks:
            self._begin(ticker.run(tick))
        for chore in worker.chores:
            self._begin(keep_doing(chore))
        janitor = Janitor(
            self._agent, [*parts.cleaners(self._agent), *worker.cleaners], parts.leases, clock=parts.clock
        )
        self._begin(ticker.run(janitor.tick))
        self._begin(keep_doing(janitor.chore))
        if worker.runs:
            kinds = {kind.name: kind for kind in worker.runs}
            folder = parts.scratch / "runs"
            runner = Runner(self._outbox, parts.runs, kinds, worker=self._name, folder=folder, clock=parts.clock)
            self._begin(runner.run())
        self._begin(self._relay())

    async def _relay(self) -> None:
        """Publishes what a crash left of ticks and runs."""
        while True:
            with contextlib.suppress(Unavailable):
                for source in (ticks_source(self._agent), runs_source(self._agent)):
                    await self._outbox.relay(source)
            await asyncio.sleep(10)

    async def _watch(self, stopping: asyncio.Future[Any], preparing: asyncio.Future[None]) -> int:
        """Waits for whatever ends this life, while the worker is prepared too; reports when it is ready."""
        ready = False
        while True:
            stream = {self._stream.crashed} if self._stream is not None else set()
            watched = {stopping, *stream, *self._tasks, *(() if ready else (preparing,))}
            done, _ = await asyncio.wait(watched, timeout=1, return_when=asyncio.FIRST_COMPLETED)
            if stopping in done:
                return 0
            for future in done - {preparing}:
                log.error("ended", worker=self._name, reason=repr(future.exception()))
                return 1
            if preparing in done:
                preparing.result()
                ready = True
                log.info("ready", worker=self._name)
                await self._heartbeat.become("ready")
            if self._stream is not None and self._stream.ended():
                log.error("ended", worker=self._name, reason="the stream stopped unexpectedly")
                return 1

    async def end(self) -> None:
        """Stops everything, the stream first, and within a bounded time."""
        await self._heartbeat.become("stopping")
        if self._stream is not None:
            await self._stream.stop(self._parts.shutdown_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._worker is not None and self._worker.close is not None:
            await asyncio.to_thread(self._worker.close)
        await self._parts.publisher.close()
        await self._parts.lookup.close()

    def _acked(self, messages: Sequence[Message]) -> None:
        self._parts.on_step("acked", [str(message.position) for message in messages])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _until_available(self, action: Callable[[], Awaitable[None]]) -> None:
        attempt = 0
        while True:
            try:
                await action()
                return
            except Unavailable as error:
                attempt += 1
                if attempt in (1, 10) or attempt % 60 == 0:
                    log.warning("waiting", worker=self._name, reason=str(error))
                await asyncio.sleep(self._parts.retry.pause(attempt))


async def keep_doing(chore: Chore, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Does a chore until cancelled."""
    while True:
        try:
            await chore.do()
        except Exception as error:  # noqa: BLE001  # the next time is the retry; a chore must not end its worker
            log.warning("chore failed", chore=chore.name, reason=f"{type(error).__name__}: {error}")
            await sleep(FAILED_CHORE_SECONDS)
        await sleep(chore.every_seconds)
