"""Takes messages from Faust's stream and acks them; no other module does either.

Faust acks whatever leaves its stream, failed or not, and the next commit of a batch jumps over a failed one. So this
module acks explicitly, in order, once ``deliver`` has finished a batch. An exception that escapes stops the process and
leaves the offsets where they were. Faust loses its position at some rebalances, so this module keeps the next offset of
each partition itself (``positions``). ``faust_app`` lists what else of Faust is switched off.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import structlog
from faust.types import TP
from mode import CrashingSupervisor

from agents.delivery.faust_app import StreamSettings, faust_app
from agents.delivery.faust_consumer import FaustConsumer
from agents.delivery.ports import MessageLookup
from agents.delivery.positions import Arrival, Positions
from schemas.delivery import Message
from schemas.envelope import Position
from schemas.errors import Unavailable
from schemas.topics import retry_topic

log = structlog.get_logger()

STILL_SECONDS = 2.0
"""After this time without a message, the messages that wait in Kafka should have arrived."""
_COMMIT_SECONDS = 5.0
"""How long a stream that fails tries to commit."""

Deliver = Callable[[Sequence[Message]], Awaitable[None]]
T = TypeVar("T")


class Stream:
    """One member of an agent's consumer group."""

    def __init__(
        self,
        agent: str,
        topics: Sequence[str],
        deliver: Deliver,
        *,
        batch_size: int,
        batch_bytes: int,
        settings: StreamSettings,
        scratch: Path,
        lookup: MessageLookup,
        instance: str | None = None,
        on_assigned: Callable[[Collection[TP]], None] = lambda partitions: None,
        on_revoked: Callable[[Collection[TP]], Awaitable[None]] | None = None,
        on_acked: Callable[[Sequence[Message]], None] = lambda messages: None,
    ) -> None:
        """``lookup`` is asked for offsets instead of Faust's consumer, which runs two calls at once, fetches included.

        ``instance`` is a name that survives a restart; with it a restarted worker gets its partitions at once.
        ``scratch`` is an existing folder; Faust insists on making an empty one of its own below it.
        """
        self._deliver = deliver
        self._batch_size = batch_size
        self._batch_bytes = batch_bytes
        self._lookup = lookup
        self._on_acked = on_acked
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()  # there is no batch to wait for until it begins
        self._positions: Positions[TP] = Positions(time.monotonic)
        self._lagging: dict[TP, int] = {}
        self._idle_since: float | None = None
        self._consumer: FaustConsumer | None = None
        self._group: asyncio.Future[None] | None = None
        self.assigned = asyncio.Event()
        """Set once Kafka has assigned partitions to this member, possibly none."""
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails with whatever ended the stream."""
        self._app = faust_app(agent, settings, scratch, instance)
        names = [name for topic in topics for name in (topic, retry_topic(topic, agent))]
        channel = self._app.topic(
            *names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self._app.agent(channel, name=agent, concurrency=1, supervisor_strategy=CrashingSupervisor)(self._consume)

        async def assigned(app: Any, partitions: Any, **_: Any) -> None:
            self._positions.forget()
            on_assigned(partitions)
            self.assigned.set()

        async def revoked(app: Any, partitions: Any, **_: Any) -> None:
            if on_revoked is not None:
                await on_revoked(partitions)

        self._signal_handlers = (assigned, revoked)  # Faust's signals hold weak references
        self._app.on_partitions_assigned.connect(assigned)
        self._app.on_partitions_revoked.connect(revoked)

    async def start(self) -> None:
        """Joins the group. ``assigned`` is set when it has joined."""
        self._app.finalize()
        self._consumer = FaustConsumer(self._app)
        # Before Faust's start, which waits for the first join.
        self._group = asyncio.ensure_future(self._consumer.take_group_errors())
        self._group.add_done_callback(self._left_the_group)
        await self._app.start()

    async def stop(self, seconds: float) -> None:
        """Stops after the current batch, waiting at most this long for it; commits what was acked."""
        self._stopping.set()
        if self._group is not None:
            self._group.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drained.wait(), seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._app.stop(), seconds)

    async def lag(self) -> int:
        """Counts the messages that wait in the partitions assigned to this member.

        Asks Kafka again for those that have not arrived since the last call although nothing is being handled.
        """
        consumer = self._started()
        partitions = consumer.assignment()
        if not partitions:
            return 0
        bounds = await self._lookup.bounds(partitions)
        for tp in partitions:
            place = self._positions.next(tp)
            if place is not None and place > bounds[tp][1]:
                await self._begin_anew(tp, bounds[tp][0])
        places = {tp: self._positions.next(tp) or consumer.committed(tp) or 0 for tp in partitions}
        ends = {tp: bounds[tp][1] for tp in partitions}
        waiting = {tp: place for tp in partitions if ends[tp] > (place := max(places[tp], bounds[tp][0]))}
        if self.idle_seconds() >= STILL_SECONDS:
            for tp, place in waiting.items():
                if self._lagging.get(tp) == place:
                    await self._ask_for_missing(tp, place, ends[tp])
        self._lagging = waiting
        return sum(ends[tp] - place for tp, place in waiting.items())

    def idle_seconds(self) -> float:
        """Returns for how long no message has arrived; 0 while a batch is being handled."""
        return 0.0 if self._idle_since is None else time.monotonic() - self._idle_since

    def ended(self) -> bool:
        """Returns whether Faust itself has stopped."""
        return bool(self._app.should_stop or self._app.crashed)

    def _started(self) -> FaustConsumer:
        if self._consumer is None:
            raise RuntimeError("the stream was used before it was started")
        return self._consumer

    async def _consume(self, stream: Any) -> None:
        try:
            self._drained.clear()
            self._idle_since = time.monotonic()
            async for batch in _batches(stream.noack(), self._batch_size, self._batch_bytes, self._stopping):
                self._idle_since = None
                events = [event for event in batch if await self._is_next(event.message)]
                messages = [_message_of(event) for event in events]
                if messages:
                    await self._deliver(messages)
                    for event in events:
                        event.ack()
                    self._on_acked(messages)
                self._idle_since = time.monotonic()
        except Exception as error:
            log.exception("stream stopped", error=str(error))
            await self._commit()
            self._crash(error)
            raise
        finally:
            self._drained.set()

    async def _commit(self) -> None:
        """Commits what was acked. Once Faust knows of an error, it may stop without that."""
        try:
            await asyncio.wait_for(self._started().commit(), _COMMIT_SECONDS)
        except Exception as error:  # noqa: BLE001  # the stream ends by its own error; what is left is delivered again
            log.warning("not committed", error=str(error) or type(error).__name__)

    def _left_the_group(self, watch: asyncio.Future[None]) -> None:
        if not watch.cancelled() and (error := watch.exception()) is not None:
            self._crash(error)

    def _crash(self, error: BaseException) -> None:
        if not self.crashed.done():
            self.crashed.set_exception(error)

    async def _is_next(self, message: Any) -> bool:
        """Returns whether a message is to be delivered now. Asks for earlier messages that exist and did not arrive."""
        tp, offset = message.tp, message.offset
        if self._positions.next(tp) is None:
            await self._begin(tp)
        arrival = self._positions.arrived(tp, offset)
        if arrival is not Arrival.MISSING:
            return arrival is Arrival.NEXT
        expected = self._positions.next(tp) or 0
        first = await _until_available(lambda: self._lookup.first(tp.topic, tp.partition, expected))
        if first < offset:
            log.warning("passed over", partition=f"{tp.topic}/{tp.partition}", first=first, came=offset)
            await self._ask(tp, first)
            return False
        # Nothing is in between except a transaction's markers, or messages that retention has deleted.
        self._started().skip_to(tp, offset)
        self._positions.begin(tp, offset + 1)
        return True

    async def _ask_for_missing(self, tp: TP, place: int, end: int) -> None:
        if self._positions.next(tp) is None:
            await self._begin(tp)
            return  # the next call sees whether messages still wait
        first = await self._lookup.first(tp.topic, tp.partition, place)
        if self._positions.next(tp) != place:
            return  # it has arrived
        if first < end:
            log.warning("did not arrive", partition=f"{tp.topic}/{tp.partition}", first=first)
            await self._ask(tp, first)
        else:
            self._positions.begin(tp, end)

    async def _begin(self, tp: TP) -> None:
        """Continues a partition at the offset that Kafka has committed, not at the one that Faust remembers."""
        committed = await self._started().committed_in_kafka(tp)
        ((first, end),) = (await _until_available(lambda: self._lookup.bounds([tp]))).values()
        if committed is None or committed > end:  # a topic that was made anew has less than the group had read
            committed = first
        if self._positions.next(tp) is None:  # it may have begun during the await
            self._positions.begin(tp, int(committed))

    async def _begin_anew(self, tp: TP, first: int) -> None:
        log.warning(
            "reads again", partition=f"{tp.topic}/{tp.partition}", first=first, reason="it ends before our place"
        )
        self._started().skip_to(tp, first)
        await self._ask(tp, first)

    async def _ask(self, tp: TP, offset: int) -> None:
        self._positions.asked(tp, offset)
        await self._started().seek(tp, offset)


async def _batches(stream: Any, size: int, most_bytes: int, stopping: asyncio.Event) -> AsyncIterator[list[Any]]:
    """Yields what has arrived, at most ``size`` events or about ``most_bytes`` together; does not wait for more."""
    events = stream.events()
    queue = stream.channel.queue
    stop = asyncio.ensure_future(stopping.wait())
    arriving = asyncio.ensure_future(anext(events))
    try:
        while True:
            await asyncio.wait({arriving, stop}, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return
            batch: list[Any] = []
            weight = 0
            while arriving.done() and len(batch) < size and weight < most_bytes:
                batch.append(arriving.result())
                weight += len(batch[-1].message.value or b"")
                arriving = asyncio.ensure_future(anext(events))
                while not arriving.done() and not queue.empty():  # noqa: ASYNC110  # a queue has no such event
                    await asyncio.sleep(0)
            yield batch
    finally:
        for future in (arriving, stop):
            future.cancel()
        await asyncio.gather(arriving, stop, return_exceptions=True)


def _message_of(event: Any) -> Message:
    """Returns the message of one of Faust's events."""
    message = event.message
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Message(
        position=Position(message.topic, message.partition, message.offset),
        key=message.key,
        value=message.value,
        headers=tuple(pairs),
    )


async def _until_available(ask: Callable[[], Awaitable[T]]) -> T:
    """Repeats a request while the broker is unavailable."""
    while True:
        try:
            return await ask()
        except Unavailable as error:
            log.warning("waiting", reason=str(error))
            await asyncio.sleep(STILL_SECONDS)
