"""What the agents say on their topics, read along as it happens, so that the demo tells facts and not hopes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from infra.kafka import KafkaClientConfig, RecordReader
from schemas.envelope import EventContext, MalformedRecord, decode
from schemas.errors import EverlearnError, Unavailable
from schemas.event import Event
from schemas.fleet import WorkerReported

TOPICS = ("drift.v1", "adapters.v1", "validations.v1", "promotions.v1", "fleet.v1")
E = TypeVar("E", bound=Event)


class NothingHappened(EverlearnError):
    """What the story waits for has not come."""


class Reading:
    """A thread that reads topics along and hands each event to ``hear``. Use it as a context manager."""

    def __init__(
        self, config: KafkaClientConfig, topics: Sequence[str], hear: Callable[[News], None], *, from_end: bool = False
    ) -> None:
        self._reader = RecordReader(config, topics, from_end=from_end)
        self._hear = hear
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"reads {topics[0]}", daemon=True)

    def __enter__(self) -> Reading:
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
                continue  # whoever waits says that nothing came
            for record in records:
                try:
                    event, context = decode(record.position.topic, record.value, record.headers, now=datetime.now(UTC))
                except MalformedRecord:
                    continue
                self._hear(News(event=event, context=context))


@dataclass(frozen=True, kw_only=True)
class News:
    """An event and when it says that it happened."""

    event: Event
    context: EventContext

    @property
    def time(self) -> datetime:
        return self.context.time


@dataclass
class Newsroom:
    """Reads the loop's topics from their beginning. Use it as a context manager."""

    config: KafkaClientConfig
    heard: list[News] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Newsroom:
        self._reading = Reading(self.config, TOPICS, self._hear)
        self._reading.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.__exit__()

    def all(self, kind: type[E], task: str | None = None) -> list[tuple[E, News]]:
        """The events of a kind so far, in the order in which they were read."""
        return [
            (each.event, each)
            for each in list(self.heard)
            if isinstance(each.event, kind) and (task is None or getattr(each.event, "task", None) == task)
        ]

    def wait(self, wanted: Callable[[Event], bool], seconds: float, what: str, *, since: int = 0) -> News:
        """The first event from the ``since``-th on that is wanted; raises NothingHappened."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                for news in self.heard[since:]:
                    if wanted(news.event):
                        return news
                since = len(self.heard)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise NothingHappened(f"{what} did not come within {seconds:.0f} s: see 'everlearn status'")
                self._changed.wait(left)

    def serving_since(self, worker: str, task: str, sequence: int) -> datetime | None:
        """When a worker first said that it serves this release or a later one."""
        for event, news in self.all(WorkerReported):
            if event.worker == worker and any(s.task == task and s.sequence >= sequence for s in event.serves):
                return news.time
        return None

    def _hear(self, news: News) -> None:
        with self._changed:
            self.heard.append(news)
            self._changed.notify_all()
