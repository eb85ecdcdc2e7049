"""Follows a compacted topic: every message from the beginning, then each new one, without a group.

Faust has no broadcast, and its tables count twice after a crash. A follower reacts to state and may see it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from agents.delivery.ports import TopicReader
from agents.delivery.worker import Follower
from schemas.delivery import Message
from schemas.envelope import MalformedRecord, Received, decode
from schemas.errors import Unavailable

log = structlog.get_logger()


async def follow(
    follower: Follower,
    reader: TopicReader,
    *,
    clock: Callable[[], datetime],
    caught_up: asyncio.Event,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    pause_seconds: float = 1.0,
) -> None:
    """Runs until cancelled. Sets ``caught_up`` once the end is reached. Starts again whenever Kafka was unavailable."""
    while True:
        try:
            async for message in reader.follow(follower.topic):
                if message is None:
                    caught_up.set()
                else:
                    await _apply(follower, message, clock())
        except Unavailable as error:
            log.warning("waiting", topic=follower.topic, reason=str(error))
        await sleep(pause_seconds)


async def _apply(follower: Follower, message: Message, now: datetime) -> None:
    if message.value is None:
        return  # a tombstone: no follower needs to remove state
    try:
        event, context = decode(message.position.topic, message.value, message.headers, now=now)
    except MalformedRecord as error:
        # No group consumes this topic, so it has no dead-letter topic: the message stays there, and the log names it.
        log.error("malformed", topic=follower.topic, position=str(message.position), error=str(error))
        return
    await follower.apply(Received(event=event, context=context, position=message.position))
