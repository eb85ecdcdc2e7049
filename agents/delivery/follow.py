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
from schemas.errors import EngineCrashed, Unavailable, unavailable

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
        except Exception as error:
            wait = error if isinstance(error, Unavailable) else unavailable(error)
            if wait is None:
                raise
            log.warning("waiting", topic=follower.topic, reason=str(wait))
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
    try:
        await follower.apply(Received(event=event, context=context, position=message.position))
    except Exception as error:
        if isinstance(error, EngineCrashed) or unavailable(error) is not None:
            raise
        # The newest event of a key counts, so one that cannot be applied must not hold up those behind it.
        log.error(
            "not applied",
            topic=follower.topic,
            position=str(message.position),
            error=f"{type(error).__name__}: {error}",
        )
