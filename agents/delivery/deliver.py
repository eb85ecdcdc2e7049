"""Finishes a batch of messages between reading and acking: each is handled at least once, with one outcome.

``deliver`` returns when every message is finished. A message is finished when its outcome is committed and its outputs
are confirmed, or when it is in the dead-letter topic. Only then may the caller ack. This module knows nothing of Faust;
``stream`` alone acks.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import structlog

from agents.delivery.dead_letters import Failure, dead_letter, dead_letter_identity
from agents.delivery.in_flight import InFlightTracker
from agents.delivery.outbox import Cause, OnStep, Outbox, no_hook
from agents.delivery.topic_ids import TopicIds
from agents.delivery.worker import BatchHandler, GivenUp
from schemas.delivery import JournalEntry, Message
from schemas.envelope import MalformedRecord, Received, Record, content_digest, decode
from schemas.errors import (
    AlreadyJournaled,
    ConfigurationError,
    EngineCrashed,
    InvalidEvent,
    RecordRefused,
    Unavailable,
    plain,
    unavailable,
)
from schemas.event import Event

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How often and for how long a failing message is tried."""

    attempts: int = 5
    """Attempts at one message whose error is unknown, before it is dead-lettered."""
    within_seconds: float = 30.0
    """Counted from the first failure, without the time spent waiting for something that was unavailable."""
    first_pause_seconds: float = 0.25
    longest_pause_seconds: float = 5.0
    crashes: int = 3
    """How often one message alone may crash the engine, or kill the process, before it is dead-lettered."""

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the ``attempt``-th failure, doubling."""
        return float(min(self.longest_pause_seconds, self.first_pause_seconds * 2 ** min(attempt - 1, 16)))


@dataclass(frozen=True, kw_only=True)
class _Item:
    message: Message
    received: Received[Event]
    digest: bytes


class Delivery:
    """Delivers messages to one agent's handler."""

    def __init__(
        self,
        handle: BatchHandler,
        outbox: Outbox,
        in_flight: InFlightTracker,
        topic_ids: TopicIds,
        *,
        given_up: Mapping[type[Event], GivenUp] | None = None,
        clock: Callable[[], datetime],
        latest_now: Callable[[], datetime] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        policy: RetryPolicy | None = None,
        on_step: OnStep = no_hook,
    ) -> None:
        """``latest_now``: by which events are judged to be from the future; it does not go back with the clock."""
        self._handle = handle
        self._outbox = outbox
        self._in_flight = in_flight
        self._given_up = given_up or {}
        self._topic_ids = topic_ids
        self._clock = clock
        self._latest_now = latest_now or clock
        self._sleep = sleep
        self._monotonic = monotonic
        self._policy = policy or RetryPolicy()
        self._on_step = on_step
        self.waiting: str | None = None
        """Why delivery waits, such as a broker that does not answer; None while it does not."""
        self.progressed_at = self._monotonic()
        """When the last step was made, or the last attempt to reach a service; the watchdog reads it."""

    async def deliver(self, messages: Sequence[Message]) -> None:
        """Finishes every message; raises only what stops the process."""
        try:
            await self._until_available(self._topic_ids.learn)
            items: list[_Item] = []
            for message in messages:
                item = await self._decode(message)
                if item is not None:
                    items.append(item)
            first, others = _by_content(items)
            await self._until_available(lambda: self._deliver_items(first))
            for item in others:  # another event with an identity of this batch
                await self._until_available(partial(self._deliver_items, [item]))
        except Exception:
            self._in_flight.keep()  # the events in flight may be the reason, so the mark that they were begun stays
            raise

    async def _deliver_items(self, items: list[_Item]) -> None:
        unfinished = await self._pass_over_finished(items)
        together, alone = await self._in_flight.interrupted([item.message.position for item in unfinished])
        for item in unfinished:
            if item.message.position in alone:
                await self._deliver_alone(item)
        # Only what is really begun is marked: a mark on finished events would hide the event that kills.
        if again := [item for item in unfinished if item.message.position in together]:
            await self._begin(again, self._in_flight.begin_again([item.message.position for item in again]))
        if others := [item for item in unfinished if item.message.position not in together | alone]:
            await self._begin(others, self._in_flight.begin([item.message.position for item in others]))

    async def _pass_over_finished(self, items: list[_Item]) -> list[_Item]:
        """Returns what is neither journaled nor dead-lettered. Publishes what a crash left unpublished of the rest."""
        found = await self._outbox.find([name for item in items for name in self._names(item)])
        for item in items:
            if self._dead_letter_identity(item.message) in found:
                found.pop(item.received.identity, None)  # what was not published of it never will be
        if not found:
            return items
        try:
            await self._outbox.settle([], [], found)
        except RecordRefused:
            for item in items:
                await self._publish_again(item, {name: found[name] for name in self._names(item) if name in found})
        alive = [item for item in items if self._dead_letter_identity(item.message) not in found]
        rest = await self._give_up_others(alive, found)
        return [item for item in rest if item.received.identity not in found]

    async def _give_up_others(self, items: list[_Item], found: dict[str, JournalEntry]) -> list[_Item]:
        """Gives up the events whose identity the journal knows from another event. Returns the rest."""
        rest: list[_Item] = []
        for item in items:
            entry = found.get(item.received.identity)
            if entry is None or entry.digest is None or entry.digest == item.digest:
                rest.append(item)
                continue
            context = item.received.context
            problem = (
                f"another event with the source {context.source} and the id {context.id} was processed before, with "
                "other content: give each event an id of its own, and send this one again with another id"
            )
            now = self._clock()
            failure = Failure(error="DuplicateIdentity", message=problem, attempts=1, first_failure=now)
            await self._give_up(item.message, failure, item.received)
        return rest

    async def _publish_again(self, item: _Item, found: dict[str, JournalEntry]) -> None:
        try:
            await self._outbox.settle([], [], found)
        except RecordRefused as error:
            await self._give_up(item.message, _failure(error, 1, self._clock()), item.received)

    async def _deliver_alone(self, item: _Item) -> None:
        failure = self._in_flight.failure(item.message.position)
        if failure is not None:
            await self._give_up(item.message, failure, item.received)
            return
        await self._begin([item], self._in_flight.begin_alone(item.message.position))

    async def _begin(self, items: list[_Item], mark: Awaitable[None]) -> None:
        await mark
        self._step("begun", items)
        await self._process(items)

    async def _decode(self, message: Message) -> _Item | None:
        now = self._latest_now()
        try:
            event, context = decode(message.position.topic, message.value, message.headers, now=now)
        except MalformedRecord as error:
            await self._give_up(
                message, Failure(error="InvalidEvent", message=str(error), attempts=1, first_failure=now)
            )
            return None
        received = Received(event=event, context=context, position=message.position)
        return _Item(message=message, received=received, digest=content_digest(event, message.value or b""))

    async def _process(self, items: list[_Item], *, known: bool = False) -> None:
        """Attempts the items until each is finished, bisecting when the batch fails.

        ``known``: the journal may know the items already.
        """
        attempts = failures = crashes = 0
        failing_since = waited = 0.0
        first_failure: datetime | None = None
        while True:
            attempts += 1
            began = self._monotonic()
            try:
                await self._attempt(items, known=known or attempts > 1)
                return
            except AlreadyJournaled:
                continue  # another worker was first: the journal now holds what it published
            except Exception as error:  # noqa: BLE001  # whatever a handler raises is retried, then dead-lettered
                if (wait := _wait_for(error)) is not None:
                    await self._wait(wait, attempts)
                    waited += self._monotonic() - began if failures else 0.0
                    continue
                problem = error
                crashes += isinstance(error, EngineCrashed)
            failures += 1
            first_failure = first_failure or self._clock()
            now = self.progressed_at = self._monotonic()
            failing_since = failing_since or now
            log.warning(
                "failed", agent=self._outbox.agent, events=len(items), attempt=failures, error=_describe(problem)
            )
            if len(items) > 1:
                middle = len(items) // 2
                # It may have failed after its commit.
                await self._process(items[:middle], known=True)
                await self._process(items[middle:], known=True)
                return
            if self._is_hopeless(problem, failures, crashes, now - failing_since - waited):
                failure = _failure(problem, failures, first_failure)
                await self._give_up(items[0].message, failure, items[0].received)
                return
            await self._sleep(self._policy.pause(failures))

    def _is_hopeless(self, problem: Exception, failures: int, crashes: int, seconds: float) -> bool:
        if isinstance(problem, InvalidEvent):
            return True
        if isinstance(problem, EngineCrashed):
            return crashes >= self._policy.crashes
        return failures >= self._policy.attempts or seconds >= self._policy.within_seconds

    async def _attempt(self, items: list[_Item], *, known: bool) -> None:
        identities = list(dict.fromkeys(item.received.identity for item in items))
        found = await self._outbox.find(identities) if known else {}
        items = await self._give_up_others(items, found)
        fresh = {item.received.identity: item for item in reversed(items)}
        new = [fresh[identity] for identity in identities if identity in fresh and identity not in found]
        batch = [item.received for item in new]
        outcomes = await self._handle(batch) if batch else []
        self._step("handled", items)
        causes = [
            Cause(identity=item.received.identity, context=item.received.context, digest=item.digest) for item in new
        ]
        await self._outbox.settle(causes, outcomes, found)
        self.waiting = None
        self._step("finished", items)

    async def _until_available(self, action: Callable[[], Awaitable[None]]) -> None:
        """Repeats the action while SQL or Kafka is unavailable, or this machine is in trouble."""
        attempt = 0
        while True:
            try:
                await action()
                return
            except AlreadyJournaled:
                continue
            except Exception as error:
                wait = _wait_for(error)
                if wait is None:
                    raise
                attempt += 1
                await self._wait(wait, attempt)

    async def _wait(self, error: Unavailable, attempt: int) -> None:
        if self.waiting is None:
            log.warning("waiting", agent=self._outbox.agent, reason=str(error))
        self.waiting = str(error)
        self.progressed_at = self._monotonic()
        with contextlib.suppress(Unavailable):
            await self._in_flight.take_back()  # a process that is killed while it waits is not killed by an event
        await self._sleep(self._policy.pause(attempt))

    async def _give_up(self, message: Message, failure: Failure, received: Received[Event] | None = None) -> None:
        """Puts the message into the dead-letter topic, and tells whoever waits for it; once Kafka confirmed both.

        Both are journaled under one identity, so that each is told once.
        """
        log.error(
            "dead-lettered",
            agent=self._outbox.agent,
            position=str(message.position),
            error=failure.error,
            message=failure.message,
        )
        name = self._dead_letter_identity(message)
        told = self._told(name, failure, received) if received is not None else []

        async def record() -> None:
            try:
                await self._outbox.record(name, [dead_letter(message, self._outbox.agent, failure), *told])
            except RecordRefused as error:
                log.error("dead letter refused", position=str(message.position), reason=str(error))
                without_value = dead_letter(message, self._outbox.agent, failure, whole=False)
                await self._outbox.record(f"{name} without value", [without_value, *told])
                await self._outbox.give_up(name)

        await self._until_available(record)
        self.waiting = None
        self.progressed_at = self._monotonic()

    def _told(self, name: str, failure: Failure, received: Received[Event]) -> list[Record]:
        tell = self._given_up.get(type(received.event))
        if tell is None:
            return []
        attempts = f"given up after {failure.attempts} attempts: " if failure.attempts > 1 else ""
        try:
            outputs = tell(received, plain(f"{attempts}{failure.message}"))
            return self._outbox.encoded(received.context, outputs, name)
        except Exception as error:  # noqa: BLE001  # the dead letter is written all the same
            log.error("given up without a word", dead_letter=name, error=_describe(error))
            return []

    def _names(self, item: _Item) -> tuple[str, str]:
        """Returns the identities under which a message may be journaled: as done, or as a dead letter."""
        return item.received.identity, self._dead_letter_identity(item.message)

    def _dead_letter_identity(self, message: Message) -> str:
        return dead_letter_identity(message.position, self._topic_ids[message.position.topic])

    def _step(self, name: str, items: Sequence[_Item]) -> None:
        self.progressed_at = self._monotonic()
        self._on_step(name, [item.received.identity for item in items])


def _wait_for(error: Exception) -> Unavailable | None:
    """Returns what to wait for, or None if the event itself may be at fault.

    A configuration that became wrong, such as a token that a server refuses now, is mended without the event.
    """
    return Unavailable(str(error)) if isinstance(error, ConfigurationError) else unavailable(error)


def _failure(problem: Exception, attempts: int, first_failure: datetime) -> Failure:
    message = str(problem) or repr(problem)
    return Failure(error=type(problem).__name__, message=message, attempts=attempts, first_failure=first_failure)


def _by_content(items: Sequence[_Item]) -> tuple[list[_Item], list[_Item]]:
    """Separates the items whose identity an earlier one has with other content."""
    digests: dict[str, bytes] = {}
    first: list[_Item] = []
    others: list[_Item] = []
    for item in items:
        known = digests.setdefault(item.received.identity, item.digest)
        (first if item.digest == known else others).append(item)
    return first, others


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
