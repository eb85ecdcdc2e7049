"""What a stream has brought, in batches, and a message as the recipe knows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from schemas.delivery import Message
from schemas.envelope import Position


async def batches(stream: Any, size: int, most_bytes: int, stopping: asyncio.Event) -> AsyncIterator[list[Any]]:
    """What has arrived, at most ``size`` events or about ``most_bytes`` together; never waits for company."""
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


def message_of(event: Any) -> Message:
    """``event``: Faust's."""
    message = event.message
    headers = message.headers or ()
    pairs = headers.items() if isinstance(headers, dict) else headers
    return Message(
        position=Position(message.topic, message.partition, message.offset),
        key=message.key,
        value=message.value,
        headers=tuple(pairs),
    )
