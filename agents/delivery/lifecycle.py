"""Runs a worker from its start to its end: build it, follow, consume, report, and stop within a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from agents.delivery.clocks import SteadyClock
from agents.delivery.deliver import Delivery, RetryPolicy
from agents.delivery.faust_app import StreamSettings
from agents.delivery.follow import follow
from agents.delivery.heartbeat import Heartbeat, Hung, Watched
from agents.delivery.in_flight import InFlightTracker
from agents.delivery.janitor import Janitor
from agents.delivery.outbox import OnStep, Outbox, no_hook
from agents.delivery.ports import (
    Database,
    InFlightMarks,
    Journal,
    KnownTopics,
    Leases,
    MessageLookup,
    Publisher,
    RunStore,
    TopicLookup,
    TopicReader,
)
from agents.delivery.runs import Runner, runs_source
from agents.delivery.stream import Stream
from agents.delivery.ticks import Ticker, ticks_source
from agents.delivery.topic_ids import TopicIds
from agents.delivery.worker import Build, Chore, Cleaner, Worker
from schemas.delivery import Message
from schemas.errors import Unavailable, unavailable
from schemas.topics import retry_topic

log = structlog.get_logger()

TAKE_BACK_SECONDS = 5.0
"""How long a worker that stops or loses partitions tries to say that their events are not the reason."""
HOUSE_KEEPING_SECONDS = 10.0
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
    topic_lookup: TopicLookup
    known_topics: KnownTopics
    stream: StreamSettings
    scratch: Path
    """An existing folder for runs and for Faust."""
    heartbeat_seconds: float = 2.0
    stalled_after_seconds: float = 900.0
    shutdown_seconds: float = 10.0
    cleaners: Callable[[str], Sequence[Cleaner]] = lambda agent: ()
    """Returns what deletes the old rows and files that every agent has, for one agent."""
    check_topics_seconds: float = 30.0
    """How often a worker asks Kafka whether a topic was deleted and made anew."""
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
        self._runner: Runner | None = None
        self._in_flight: InFlightTracker | None = None
        self._topic_ids: TopicIds | None = None
        self._steady = SteadyClock(parts.clock)
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
        topics = [name for topic in worker.topics for name in (topic, retry_topic(topic, worker.agent))]
        topics += [follower.topic for follower in worker.followers]
        parts = self._parts
        topic_ids = self._topic_ids = TopicIds(topics, parts.topic_lookup, parts.known_topics, clock=parts.clock)
        await self._until_available(topic_ids.learn)
        await self._until_available(self._ask_the_time)
        stream = self._stream = self._stream_of(worker, topic_ids)
        caught_up = []
        for follower in worker.followers:
            event = asyncio.Event()
            caught_up.append(event.wait())
            self._begin(follow(follower, self._parts.reader, clock=self._steady.latest, caught_up=event))
        await asyncio.gather(*caught_up)
        await stream.start()
        await stream.assigned.wait()
        self._begin_ticks_and_runs(worker)

    async def _report(self) -> None:
        """Begins the heartbeat as soon as SQL answers and Kafka confirms."""
        await self._until_available(self._reach)
        self._begin(self._heartbeat.run())

    async def _ask_the_time(self) -> None:
        """Learns what time it was when the agent last worked; a clock may have been put back since."""
        newest = await asyncio.to_thread(self._parts.journal.newest, self._agent)
        if newest is not None:
            self._steady.has_been(newest)

    async def _reach(self) -> None:
        await asyncio.to_thread(self._parts.journal.find, self._agent, ["-"])
        await self._heartbeat.beat(None)

    async def _built(self) -> Worker:
        built: list[Worker] = []

        async def attempt() -> None:
            built.append(await asyncio.to_thread(self._build))

        await self._until_available(attempt)
        return built[0]

    def _stream_of(self, worker: Worker, topic_ids: TopicIds) -> Stream:
        parts = self._parts
        in_flight = InFlightTracker(
            worker.agent, parts.marks, life=uuid.uuid4().hex, clock=parts.clock, crashes=parts.retry.crashes,
            topic_id=topic_ids.__getitem__,
        )  # fmt: skip
        self._in_flight = in_flight
        delivery = Delivery(
            worker.dispatch(), self._outbox, in_flight, topic_ids, given_up=worker.given_up, clock=parts.clock,
            latest_now=self._steady.latest, policy=parts.retry, on_step=parts.on_step,
        )  # fmt: skip

        def on_assigned(partitions: Collection[tuple[str, int]]) -> None:
            in_flight.forget(partitions)
            topic_ids.forget()

        # Kafka gives a restarted static member its partitions again, also when its topics were made anew since. It
        # divides them again for a member with another name.
        instance = f"{self._instance}-{topic_ids.fingerprint}" if self._instance is not None else None
        stream = Stream(
            worker.agent, worker.topics, delivery.deliver, batch_size=worker.batch_size,
            batch_bytes=worker.batch_bytes, settings=parts.stream, scratch=parts.scratch / "faust",
            lookup=parts.lookup, instance=instance, on_assigned=on_assigned, on_revoked=self._on_revoked,
            on_acked=self._acked,
        )  # fmt: skip
        self._heartbeat.watch(
            Watched(
                worker=worker,
                delivery=delivery,
                lag=stream.lag,
                idle_seconds=stream.idle_seconds,
                run_waits=lambda: self._runner.waiting if self._runner is not None else None,
            )
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
            self._agent, [*parts.cleaners(self._agent), *worker.cleaners], parts.leases, clock=self._steady.earliest
        )
        self._begin(ticker.run(janitor.tick))
        self._begin(keep_doing(janitor.chore))
        if worker.runs:
            kinds = {kind.name: kind for kind in worker.runs}
            folder = parts.scratch / "runs"
            runner = Runner(self._outbox, parts.runs, kinds, worker=self._name, folder=folder, clock=parts.clock)
            self._runner = runner
            self._begin(runner.run())
        self._begin(keep_house(self._outbox))
        self._begin(self._check_topics())

    async def _check_topics(self) -> None:
        """Ends the worker when a topic was made anew.

        Faust gives up a topic that is missing at a rebalance, and nothing tells it that the topic is there again.
        """
        while True:
            await asyncio.sleep(self._parts.check_topics_seconds)
            with contextlib.suppress(Unavailable):
                if self._topic_ids is not None:
                    await self._topic_ids.check()

    async def _on_revoked(self, partitions: Collection[tuple[str, int]]) -> None:
        if self._in_flight is not None:
            with contextlib.suppress(Unavailable, TimeoutError):
                await asyncio.wait_for(self._in_flight.lose(partitions), TAKE_BACK_SECONDS)

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
                if isinstance(future.exception(), Hung) and self._in_flight is not None:
                    self._in_flight.keep()
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
        if self._in_flight is not None:
            with contextlib.suppress(Unavailable, TimeoutError):
                await asyncio.wait_for(self._in_flight.take_back(), TAKE_BACK_SECONDS)
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
            except Exception as error:
                wait = error if isinstance(error, Unavailable) else unavailable(error)
                if wait is None:
                    raise
                attempt += 1
                if attempt in (1, 10) or attempt % 60 == 0:
                    log.warning("waiting", worker=self._name, reason=str(wait))
                await asyncio.sleep(self._parts.retry.pause(attempt))


async def keep_house(outbox: Outbox, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Publishes what a crash left of ticks and runs, until cancelled."""
    while True:
        try:
            await outbox.relay((ticks_source(outbox.agent), runs_source(outbox.agent)))
        except Unavailable as error:
            log.info("house keeping waits", agent=outbox.agent, reason=str(error))
        except Exception as error:  # noqa: BLE001  # the next time is the retry; it must not end the worker
            log.error("house keeping failed", agent=outbox.agent, error=f"{type(error).__name__}: {error}")
        await sleep(HOUSE_KEEPING_SECONDS)


async def keep_doing(chore: Chore, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Does a chore until cancelled."""
    while True:
        try:
            await chore.do()
        except Exception as error:  # noqa: BLE001  # the next time is the retry; a chore must not end its worker
            log.warning("chore failed", chore=chore.name, reason=f"{type(error).__name__}: {error}")
            await sleep(FAILED_CHORE_SECONDS)
        await sleep(chore.every_seconds)
