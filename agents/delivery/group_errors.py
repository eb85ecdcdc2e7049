"""Collects the errors of the consumer group, which aiokafka keeps until somebody asks for them. Faust never asks.

While aiokafka keeps an error it does nothing for the group: a member that was refused once, by a broker that was still
loading, would never join, and would get no message. A fetch that waits at that moment ends the stream with the error.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

log = structlog.get_logger()

LOOK_SECONDS = 0.5
ATTEMPTS = 20
"""This many errors, with less than ``QUIET_SECONDS`` between two of them, will not go away by themselves."""
QUIET_SECONDS = 30.0


async def take_errors(consumer: Any) -> None:
    """Asks for errors until it is cancelled. After each, aiokafka joins again. Raises errors that joining cannot fix.

    ``consumer``: Faust's.
    """
    attempts, last = 0, 0.0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        error = await _take(consumer._thread)
        if error is None:
            continue
        attempts = attempts + 1 if time.monotonic() - last < QUIET_SECONDS else 1
        last = time.monotonic()
        # What Kafka means to last has a class of its own; this one stands for whatever else it answers.
        if type(error).__name__ != "KafkaError" or attempts == ATTEMPTS:
            raise error
        log.warning("joining again", reason=str(error))


async def _take(thread: Any) -> Exception | None:
    """The error that is kept, if any. ``thread``: in which Faust's consumer lives; None before it does."""
    consumer = thread._consumer if thread is not None else None
    coordinator = getattr(consumer, "_coordinator", None)
    if coordinator is None:
        return None  # it has not begun
    ended = coordinator._coordination_task.done()
    if coordinator._pending_exception is None and not ended:
        return None

    async def ask() -> Exception | None:
        try:
            coordinator.check_errors()
        except Exception as error:  # noqa: BLE001  # whatever it is
            return error
        return None

    error = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(), thread.thread_loop))
    if error is not None and ended:
        raise error  # nobody would join again
    return error
