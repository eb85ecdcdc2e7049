"""Reads what the agents publish, as it happens, so that the demo reports facts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from agents.cli.waiting import event_of
from infra.kafka import RecordReader
from schemas.envelope import EventContext
from schemas.errors import EverlearnError, Unavailable
from schemas.event import Event
from schemas.fleet import WorkerReported
from schemas.kafka import KafkaConnection

TOPICS = ("drift.v1", "adapters.v1", "validations.v1", "promotions.v1", "fleet.v1")
E = TypeVar("E", bound=Event)


class EventMissing(EverlearnError):
    """An event that the demo waits for has not arrived."""


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """An event and its context, which has the time at which it happened."""

    event: Event
    context: EventContext

    @property
    def time(self) -> datetime:
        return self.context.time


class TopicFollower:
    """Reads topics in a thread, and gives each event to ``on_event``. Use it as a context manager."""

    def __init__(
        self,
        config: KafkaConnection,
        topics: Sequence[str],
        on_event: Callable[[LoggedEvent], None],
        *,
        from_end: bool = False,
    ) -> None:
        self._reader = RecordReader(config, topics, from_end=from_end)
        self._on_event = on_event
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"follows {topics[0]}", daemon=True)

    def __enter__(self) -> TopicFollower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(10)
        self._reader.close()

    def _read(self) -> None:
        while not self._closing.is_set():
            try:
                records = self._reader.poll(0.2)
            except Unavailable:
                continue  # the caller that waits reports that nothing arrived
            for record in records:
                decoded = event_of(record)
                if decoded is not None:
                    event, context = decoded
                    self._on_event(LoggedEvent(event=event, context=context))


@dataclass
class EventLog:
    """Keeps the events of the loop's topics from their beginning. Use it as a context manager."""

    config: KafkaConnection
    events: list[LoggedEvent] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> EventLog:
        self._follower = TopicFollower(self.config, TOPICS, self._append)
        self._follower.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.__exit__()

    def of_type(self, kind: type[E], task: str | None = None) -> list[tuple[E, LoggedEvent]]:
        """The events of a type so far, in the order in which they were read."""
        return [
            (each.event, each)
            for each in list(self.events)
            if isinstance(each.event, kind) and (task is None or getattr(each.event, "task", None) == task)
        ]

    def wait(self, wanted: Callable[[Event], bool], seconds: float, what: str, *, since: int = 0) -> LoggedEvent:
        """The first wanted event at or after position ``since``. Raises EventMissing."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for logged in self.events[since:]:
                    if wanted(logged.event):
                        return logged
                since = len(self.events)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise EventMissing(f"{what} did not come within {seconds:.0f} s: see 'everlearn status'")
                self._changed.wait(left)

    def serving_since(self, worker: str, task: str, sequence: int) -> datetime | None:
        """The time at which a worker first reported that it serves this release or a later one."""
        for event, logged in self.of_type(WorkerReported):
            if event.worker == worker and any(s.task == task and s.sequence >= sequence for s in event.serves):
                return logged.time
        return None

    def _append(self, logged: LoggedEvent) -> None:
        with self._changed:
            self.events.append(logged)
            self._changed.notify_all()
