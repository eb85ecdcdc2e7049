"""What an agent's worker consists of: the description that wiring fills in and ``stream.run_worker`` brings to life."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.delivery.outcome import Outcome
from schemas.delivery import Claim
from schemas.envelope import Received
from schemas.event import Event
from schemas.fleet import Serving

Handler = Callable[[Received[Event]], Awaitable[Outcome]]
BatchHandler = Callable[[Sequence[Received[Event]]], Awaitable[Sequence[Outcome]]]
"""Events in, as many outcomes out, in the same order."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Something that must happen without traffic, at one worker of the fleet, every so many seconds."""

    name: str
    every_seconds: float
    handle: Callable[[datetime], Awaitable[Outcome]]
    """Gets the scheduled time, from which the outputs' ids are derived."""


@dataclass(frozen=True, kw_only=True)
class RunKind:
    """Long work in a child process. ``entry`` is ``module:function``, called with (arguments, folder) -> JSON object.

    The folder survives a crash, so that the next attempt can resume from it.
    """

    name: str
    entry: str
    done: Callable[[Claim, dict[str, Any]], Outcome]
    failed: Callable[[Claim, str], Outcome]
    max_attempts: int = 3
    niceness: int = 10
    """How far the child steps back behind who serves: at 10 it gets a tenth of a busy processor, at 5 a quarter."""


@dataclass(frozen=True, kw_only=True)
class Follower:
    """Reads a compacted topic whole, without a group; the worker is ready once the end was reached."""

    topic: str
    apply: Callable[[Received[Event]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """An agent's worker: what it consumes, how it reacts, and what else it keeps going."""

    agent: str
    topics: tuple[str, ...]
    handle: BatchHandler
    batch_size: int = 64
    batch_bytes: int = 2_000_000
    """About the most that is handled together, bytes of values; one larger event is handled alone."""
    ticks: tuple[Tick, ...] = ()
    runs: tuple[RunKind, ...] = ()
    followers: tuple[Follower, ...] = ()
    start: Callable[[], None] | None = None
    """Slow preparation such as loading a model; called in a thread before the first event. May raise Unavailable."""
    close: Callable[[], None] | None = None
    moved_at: Callable[[], float] = lambda: 0.0
    """When a long batch last got further, on ``time.monotonic``'s clock; it counts as a step for the watchdog."""
    serves: Callable[[], Sequence[Serving]] | None = None
    """What it serves, if that may change; asked ten times a second, and told at once when it does."""
    problem: Callable[[], str | None] = lambda: None
    """What is wrong though the worker works, in one line; goes out with each heartbeat."""


def one_by_one(handle: Handler) -> BatchHandler:
    """A batch handler that gives each event to a handler of single events, in order."""

    async def handle_batch(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return [await handle(received) for received in batch]

    return handle_batch
