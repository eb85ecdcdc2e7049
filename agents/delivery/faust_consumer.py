"""Wraps Faust's consumer. Only this file uses private names of Faust and aiokafka.

Faust is pinned, and ``tests/agents/delivery/test_faust_consumer.py`` fails first when an upgrade changes one of them.
These have no public name:

- ``Consumer._committed_offset`` and ``_read_offset``: the offsets that Faust believes to be committed and read;
- ``Consumer._thread``, its ``_ensure_consumer()`` and ``_consumer``: the thread in which aiokafka's consumer lives;
- aiokafka's ``_coordinator``, its ``_coordination_task`` and ``_pending_exception``: the group's errors.

aiokafka keeps an error of the group until its user takes it, and Faust never does. While aiokafka keeps an error it
does nothing for the group. A member that was refused once, by a broker that was still loading, would never join and
would get no message. A fetch that waits at that moment ends the stream with the error.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from faust.types import TP

log = structlog.get_logger()

LOOK_SECONDS = 0.5
ATTEMPTS = 20
"""After this many errors, with less than ``QUIET_SECONDS`` between two of them, joining again will not help."""
QUIET_SECONDS = 30.0


class FaustConsumer:
    """The consumer of a Faust app, as a stream uses it. The app must be finalized."""

    def __init__(self, app: Any) -> None:  # Faust's App has no type that mypy can follow
        self._consumer = app.consumer
        self._consumer._read_offset = _NoReadOffsets()

    def assignment(self) -> list[TP]:
        """Returns the partitions that are assigned to this member."""
        return [TP(*tp) for tp in self._consumer.assignment()]

    def committed(self, tp: TP) -> int | None:
        """Returns the offset that Faust has committed or will commit next."""
        offset: int | None = self._consumer._committed_offset.get(tp)
        return offset

    def skip_to(self, tp: TP, offset: int) -> None:
        """Lets Faust commit offsets after a gap, which it would not do otherwise."""
        self._consumer._committed_offset[tp] = offset

    async def committed_in_kafka(self, tp: TP) -> int | None:
        """Asks Kafka what the group has committed."""
        thread = self._consumer._thread
        offset: int | None = await thread.call_thread(thread._ensure_consumer().committed, tp)
        return offset

    async def commit(self) -> None:
        """Commits all that was acked. Raises the errors of aiokafka."""
        # A call that finds another commit under way only waits for that, which may not have the latest offsets.
        for _ in range(2):
            await self._consumer.commit()

    async def seek(self, tp: TP, offset: int) -> None:
        """Fetches a partition from this offset on, if it is still assigned to this member."""
        if tp in self._consumer.assignment():
            await self._consumer.seek(tp, offset)

    async def take_group_errors(self) -> None:
        """Takes the group's errors until cancelled. After each, aiokafka joins again.

        Raises an error that joining again cannot fix.
        """
        attempts, last = 0, 0.0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            error = await self._take_group_error()
            if error is None:
                continue
            attempts = attempts + 1 if time.monotonic() - last < QUIET_SECONDS else 1
            last = time.monotonic()
            # A lasting error has a class of its own; aiokafka uses the plain class for everything else.
            if type(error).__name__ != "KafkaError" or attempts == ATTEMPTS:
                raise error
            log.warning("joining again", reason=str(error))

    async def _take_group_error(self) -> Exception | None:
        thread = self._consumer._thread
        consumer = thread._consumer if thread is not None else None
        coordinator = getattr(consumer, "_coordinator", None)
        if coordinator is None:
            return None  # the consumer has not started yet
        ended = coordinator._coordination_task.done()
        if coordinator._pending_exception is None and not ended:
            return None

        async def ask() -> Exception | None:
            try:
                coordinator.check_errors()
            except Exception as error:  # noqa: BLE001  # it is returned, whatever it is
                return error
            return None

        error = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), thread.thread_loop))
        if error is not None and ended:
            raise error  # nobody would join again
        return error


class _NoReadOffsets(dict[TP, int | None]):
    """Replaces the offsets that Faust remembers as read. With them it would drop messages that are fetched again."""

    def __missing__(self, key: TP) -> None:
        return None

    def __setitem__(self, key: TP, value: int | None) -> None:
        return

    def update(self, *args: object, **kwargs: object) -> None:
        return
