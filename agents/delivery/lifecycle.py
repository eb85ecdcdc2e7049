"""A worker's life: reach what it needs, prepare, follow, consume, beat, and end within a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from agents.delivery.deliver import Delivery, RetryPolicy
from agents.delivery.faust_app import StreamSettings
from agents.delivery.follow import follow
from agents.delivery.heartbeat import Heartbeat
from agents.delivery.in_flight import Suspects
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
from agents.delivery.worker import Worker
from schemas.delivery import Message
from schemas.errors import Unavailable

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class WorkerParts:
    """What every worker stands on, whatever its agent."""

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
    journal_days: float = 30.0
    """Journal entries are kept longer than any topic keeps its messages, so that no replay finds them gone."""
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    on_step: OnStep = no_hook


async def run_worker(worker: Worker, parts: WorkerParts, name: str, *, instance: str | None = None) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the process's exit code: 0 when told to stop, 1 when it failed.

    ``name`` is the worker's key on fleet.v1. ``instance`` is a name that no other running worker has; with it, a
    restarted worker gets its partitions back at once.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    life = _Life(worker, parts, name, instance)
    try:
        code = await life.live(stop)
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(life.end(), 2 * parts.shutdown_seconds + 5)
    log.info("stopped", worker=name, code=code)
    return code


class _Life:
    """One life of one worker."""

    def __init__(self, worker: Worker, parts: WorkerParts, name: str, instance: str | None) -> None:
        self._worker = worker
        self._parts = parts
        self._tasks: list[asyncio.Task[None]] = []
        self._outbox = Outbox(
            worker.agent, database=parts.database, journal=parts.journal, runs=parts.runs, publisher=parts.publisher,
            clock=parts.clock, on_step=parts.on_step,
        )  # fmt: skip
        suspects = Suspects(
            worker.agent, parts.marks, life=uuid.uuid4().hex, clock=parts.clock, crashes=parts.retry.crashes
        )
        self._delivery = Delivery(
            worker.handle, self._outbox, suspects, clock=parts.clock, policy=parts.retry, on_step=parts.on_step
        )
        self._stream = Stream(
            worker.agent, worker.topics, self._delivery.deliver, batch_size=worker.batch_size,
            batch_bytes=worker.batch_bytes, settings=parts.stream, scratch=parts.scratch / "faust",
            lookup=parts.lookup, instance=instance, on_assigned=suspects.forget, on_acked=self._acked,
        )  # fmt: skip
        self._heartbeat = Heartbeat(
            worker, name, parts.publisher, self._delivery, self._stream.lag, self._stream.idle_seconds,
            clock=parts.clock, every_seconds=parts.heartbeat_seconds,
            stalled_after_seconds=parts.stalled_after_seconds,
            starved_after_seconds=2 * parts.stream.session_timeout_seconds,
        )  # fmt: skip
        self._name = name

    async def live(self, stop: asyncio.Event) -> int:
        stopping = asyncio.ensure_future(stop.wait())
        preparing = asyncio.ensure_future(self._prepare())
        try:
            return await self._watch(stopping, preparing)
        finally:
            stopping.cancel()
            preparing.cancel()

    async def _prepare(self) -> None:
        await self._until_available(self._reach)
        self._begin(self._heartbeat.run())
        if self._worker.start is not None:
            start = self._worker.start
            await self._until_available(lambda: asyncio.to_thread(start))
        caught_up = []
        for follower in self._worker.followers:
            event = asyncio.Event()
            caught_up.append(event.wait())
            self._begin(follow(follower, self._parts.reader, clock=self._parts.clock, caught_up=event))
        await asyncio.gather(*caught_up)
        await self._stream.start()
        await self._stream.assigned.wait()
        self._begin_ticks_and_runs()

    async def _reach(self) -> None:
        """SQL answers and Kafka confirms."""
        await asyncio.to_thread(self._parts.journal.find, self._worker.agent, ["-"])
        await self._heartbeat.beat(None)

    def _begin_ticks_and_runs(self) -> None:
        worker, parts = self._worker, self._parts
        ticker = Ticker(self._outbox, parts.leases, holder=self._name, clock=parts.clock)
        for tick in worker.ticks:
            self._begin(ticker.run(tick))
        if worker.runs:
            kinds = {kind.name: kind for kind in worker.runs}
            folder = parts.scratch / "runs"
            runner = Runner(self._outbox, parts.runs, kinds, worker=self._name, folder=folder, clock=parts.clock)
            self._begin(runner.run())
        self._begin(self._housekeeping())

    async def _housekeeping(self) -> None:
        """Relays what a crash left of ticks and runs; prunes the journal."""
        agent = self._worker.agent
        while True:
            with contextlib.suppress(Unavailable):
                for source in (ticks_source(agent), runs_source(agent)):
                    await self._outbox.relay(source)
                await self._outbox.prune(self._parts.journal_days)
            await asyncio.sleep(10)

    async def _watch(self, stopping: asyncio.Future[Any], preparing: asyncio.Future[None]) -> int:
        """Waits for whatever ends this life, while it is being prepared too; says when it is ready."""
        ready = False
        while True:
            watched = {stopping, self._stream.crashed, *self._tasks, *(() if ready else (preparing,))}
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
            if self._stream.ended():
                log.error("ended", worker=self._name, reason="the stream stopped by itself")
                return 1

    async def end(self) -> None:
        """Stops everything, the stream first, and within a bounded time."""
        await self._heartbeat.become("stopping")
        await self._stream.stop(self._parts.shutdown_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._worker.close is not None:
            await asyncio.to_thread(self._worker.close)
        await self._parts.publisher.close()
        await self._parts.lookup.close()

    def _acked(self, messages: Sequence[Message]) -> None:
        self._parts.on_step("acked", [str(message.position) for message in messages])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _until_available(self, action: Callable[[], Any]) -> None:
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
