"""Describes an agent's worker: ``agents.wiring`` fills the description in, and ``lifecycle`` runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from agents.delivery.outcome import NOTHING, Outcome, Output
from schemas.delivery import Claim
from schemas.envelope import Received
from schemas.errors import InvalidEvent
from schemas.event import Event, JsonObject
from schemas.fleet import Serving
from schemas.topics import TOPICS

Handler = Callable[[Received[Any]], Awaitable[Outcome]]
"""Turns one event into its outcome. The table of handlers says which class of event it gets."""
BatchHandler = Callable[[Sequence[Received[Any]]], Awaitable[Sequence[Outcome]]]
"""Turns several events into outcomes, one for each event in the same order."""


@dataclass(frozen=True)
class Batch:
    """Marks a handler that gets all of its events of a batch in one call.

    A handler that the table names for several event types gets the events of all of them together, in their order.
    """

    handle: BatchHandler


Handlers = Mapping[type[Event], Handler | Batch]
"""The handler of each type of event that an agent reacts to."""
GivenUp = Callable[[Received[Any], str], Sequence[Output]]
"""Tells whoever waits for an event that it is given up. Gets the event and the reason, on one line."""


def dispatcher(agent: str, handlers: Handlers) -> BatchHandler:
    """Makes one batch handler of an agent's table of handlers.

    If an event belongs to a topic of the agent but not to its table, it is for other readers: its outcome is NOTHING.
    An event of another topic raises InvalidEvent.
    """
    known = {event for topic in TOPICS if agent in topic.readers for event in topic.events}

    async def handle(batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        outcomes = [NOTHING] * len(batch)
        together: dict[Batch, list[int]] = {}
        for place, received in enumerate(batch):
            handler = handlers.get(type(received.event))
            if isinstance(handler, Batch):
                together.setdefault(handler, []).append(place)
            elif handler is not None:
                outcomes[place] = await handler(received)
            elif type(received.event) not in known:
                raise InvalidEvent(
                    f"the {agent} does not read {received.event.type}: send it to the topic it belongs to"
                )
        for handler, places in together.items():
            for place, outcome in zip(places, await handler.handle([batch[each] for each in places]), strict=True):
                outcomes[place] = outcome
        return outcomes

    return handle


@dataclass(frozen=True, kw_only=True)
class Tick:
    """Periodic work that no event starts. One worker of the fleet does it, every ``every_seconds``."""

    name: str
    every_seconds: float
    handle: Callable[[datetime], Awaitable[Outcome]]
    """Gets the scheduled time, from which the outputs' ids are derived."""


@dataclass(frozen=True, kw_only=True)
class Chore:
    """Periodic work that every worker of the agent does for itself, such as loading a new adapter.

    It has no outcome and no lease. A failure is logged, and the next time is the retry.
    """

    name: str
    every_seconds: float
    do: Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Cleaner:
    """Deletes what one store keeps for a time only. The agent's janitor calls it."""

    name: str
    clean: Callable[[datetime], int]
    """Gets the time. Deletes at most a bounded amount of what is too old by then, in short transactions, and returns
    how many. It is called in a thread, again and again, and by two workers at once where a lease runs out."""
    every_seconds: float = 60.0
    everywhere: bool = False
    """True for files in the home folder: each worker deletes them on its own machine. Otherwise one worker of the fleet
    does it."""


@dataclass(frozen=True, kw_only=True)
class RunKind:
    """A kind of long work that is done in a child process.

    ``entry`` is ``module:function``; the child calls it with (arguments, folder), and it returns a JSON object. The
    folder survives a crash, so that the next attempt can resume from it.
    """

    name: str
    entry: str
    done: Callable[[Claim, JsonObject], Outcome]
    failed: Callable[[Claim, str], Outcome]
    max_attempts: int = 3
    """A failure at this attempt, or at a later one, ends the run."""
    max_claims: int = 10
    """So often a run is begun if its worker dies each time, which is seldom the run's fault: it has its own process."""
    niceness: int = 10
    """How far the child yields to other processes: at 10 it gets a tenth of a busy processor, at 5 a quarter."""


@dataclass(frozen=True, kw_only=True)
class Follower:
    """Reads a whole compacted topic without a group. The worker is ready once the end of the topic was reached."""

    topic: str
    apply: Callable[[Received[Event]], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Worker:
    """An agent's worker: what it consumes, how it reacts, and what else it does."""

    agent: str
    topics: tuple[str, ...]
    handlers: Handlers
    given_up: Mapping[type[Event], GivenUp] = field(default_factory=dict)
    """What is published beside the dead letter of an event, by its type."""
    batch_size: int = 64
    batch_bytes: int = 2_000_000
    """About how many bytes of values are handled together; a larger event is handled alone."""
    ticks: tuple[Tick, ...] = ()
    chores: tuple[Chore, ...] = ()
    runs: tuple[RunKind, ...] = ()
    followers: tuple[Follower, ...] = ()
    cleaners: tuple[Cleaner, ...] = ()
    """Delete the old rows and files that belong to this agent alone."""
    close: Callable[[], None] | None = None
    moved_at: Callable[[], float] = lambda: 0.0
    """Returns when a long batch last made progress, on ``time.monotonic``'s clock; the watchdog counts it as a step."""
    serves: Callable[[], Sequence[Serving]] | None = None
    """Returns what the worker serves, if that may change. The heartbeat reports a change at once."""
    problem: Callable[[], str | None] = lambda: None
    """Returns in one line a problem of a worker that still works, or None; each heartbeat carries it."""

    def dispatch(self) -> BatchHandler:
        """One handler for every event that the worker reads."""
        return dispatcher(self.agent, self.handlers)


Build = Callable[[], Worker]
"""Makes a worker with its parts. It may load models, so it is called in a thread; it may raise Unavailable."""
