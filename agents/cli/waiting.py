"""Publishes what a command asks for, and waits for what comes of it: events on a topic, or rows in the database."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TypeVar

from agents.cli.output import JsonObject, ShowShare, share_bar
from agents.cli.sending import now, stamped
from agents.cli.stores import open_database
from infra.kafka import RecordPublisher, RecordReader, StoredRecord, kafka_connection
from infra.kafka.client import CONNECT_SECONDS
from infra.kafka.publisher import DELIVERY_SECONDS
from schemas.documents import DocumentIndexed, DocumentUnindexed, IndexNotRebuilt, IndexRebuilt
from schemas.envelope import EventContext, MalformedRecord, decode
from schemas.errors import TimedOut
from schemas.event import Event
from schemas.learning import AdapterTrained, TrainingDeclined

if TYPE_CHECKING:
    from infra.settings import Settings
    from schemas.delivery import Run

POLL_SECONDS = 0.5
"""How long one poll of a topic waits."""
LOOK_SECONDS = 0.3
"""Between two looks at the database."""
GRACE_SECONDS = 1.0
"""So much later than the deadline a call that blocks is ended. Before that, a command says better what it waits for."""

T = TypeVar("T")
IndexingOutcome = DocumentIndexed | DocumentUnindexed
RunOutcome = AdapterTrained | TrainingDeclined | IndexRebuilt | IndexNotRebuilt
"""The events that end a run; ``cause`` names the request that led to it."""


class Reader(Protocol):
    """Reads what is written to its topics after the moment at which it was made."""

    def poll(self, timeout_seconds: float) -> Sequence[StoredRecord]: ...


class Deadline:
    """The end of a wait; ``renew`` starts the time again, as when something has arrived.

    As a context it also ends what blocks: a little after the deadline it raises TimedOut in the block, in whatever call
    to Kafka, SQL or the registry that is. It does so in the main thread only, and by the alarm signal.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._armed = False
        self.renew()

    def renew(self) -> None:
        self._end = self._clock() + self.seconds
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, self.seconds + GRACE_SECONDS)

    def left(self) -> float:
        """The seconds that are left, at least one."""
        return max(1.0, self._end - self._clock())

    def passed(self) -> bool:
        return self._clock() >= self._end

    def __enter__(self) -> Deadline:
        self._entered = time.monotonic()
        self._armed = threading.current_thread() is threading.main_thread()
        if self._armed:
            self._before = signal.signal(signal.SIGALRM, self._end_block)
            self._timer_before = signal.setitimer(signal.ITIMER_REAL, self.left() + GRACE_SECONDS)[0]
        return self

    def __exit__(self, *_: object) -> None:
        if not self._armed:
            return
        self._armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)
        if self._timer_before:
            left = self._timer_before - (time.monotonic() - self._entered)
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left))

    def _end_block(self, _number: int, _frame: FrameType | None) -> None:
        raise TimedOut(
            f"nothing came of it in {self.seconds:g} s, because something does not answer: see with 'everlearn status' "
            "what it is, or wait longer with --timeout"
        )


def waiting(seconds: float | None) -> AbstractContextManager[Deadline | None]:
    """The deadline of a command that waits for so long; None for a command that does not wait."""
    return nullcontext() if seconds is None else Deadline(seconds)


@contextmanager
def reader_and_publisher(
    settings: Settings, topics: Sequence[str], deadline: Deadline
) -> Iterator[tuple[RecordReader, RecordPublisher]]:
    """Opens both. The reader stands at the topics' end before anything is sent, so that it misses no reply."""
    with open_reader(settings, topics, deadline) as reader, open_publisher(settings, deadline) as publisher:
        yield reader, publisher


def open_reader(settings: Settings, topics: Sequence[str], deadline: Deadline) -> RecordReader:
    """Reads what is written to the topics from now on."""
    connect = min(CONNECT_SECONDS, deadline.left())
    return RecordReader(kafka_connection(settings), topics, from_end=True, connect_seconds=connect)


def open_publisher(settings: Settings, deadline: Deadline | None) -> RecordPublisher:
    """Gives a record up at the deadline, if that comes before a publisher's own bound."""
    left = deadline.left() if deadline is not None else DELIVERY_SECONDS
    return RecordPublisher(
        kafka_connection(settings),
        delivery_seconds=min(DELIVERY_SECONDS, left),
        connect_seconds=min(CONNECT_SECONDS, left),
    )


def records_until(
    reader: Reader, deadline: Deadline, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[StoredRecord]:
    """Yields records as they arrive until the deadline passes. ``meanwhile`` is called after each poll."""
    while not deadline.passed():
        yield from reader.poll(POLL_SECONDS)
        meanwhile()


def events_until(
    reader: Reader, deadline: Deadline, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[tuple[Event, EventContext]]:
    """Yields the events among the records of ``records_until``."""
    for record in records_until(reader, deadline, meanwhile):
        event = event_of(record)
        if event is not None:
            yield event


def event_of(record: StoredRecord) -> tuple[Event, EventContext] | None:
    """Decodes a record; None for a malformed one, whose fault 'everlearn tail' shows."""
    try:
        return decode(record.position.topic, record.value, record.headers, now=now())
    except MalformedRecord:
        return None


def look_until(look: Callable[[], T | None], deadline: Deadline) -> T | None:
    """Calls ``look``, at least once, until it gives something or the deadline passes."""
    while (found := look()) is None and not deadline.passed():
        time.sleep(LOOK_SECONDS)
    return found


def wait_until_indexed(
    reader: Reader,
    submitted: dict[str, datetime],
    deadline: Deadline,
    on_indexed: Callable[[IndexingOutcome], None] = lambda _event: None,
) -> dict[str, datetime]:
    """Gives the documents that are not searchable when nothing has arrived for the deadline's seconds.

    ``submitted``: the event time of each key's newest version; a newer one by somebody else counts too.
    """
    missing = dict(submitted)
    events = events_until(reader, deadline)
    while missing and (arrived := next(events, None)) is not None:
        event, _ = arrived
        if not isinstance(event, IndexingOutcome):
            continue
        if event.key in missing and event.submitted_at >= missing[event.key]:
            del missing[event.key]
            deadline.renew()
            on_indexed(event)
    return missing


def request_run(settings: Settings, request: Event, *, topic: str, agent: str, seconds: float) -> RunOutcome | None:
    """Publishes a request, shows the progress of its run, and gives the event that ends the run.

    ``topic``: where that event is expected. None when it did not come in time.
    """
    from infra.sql.runs import SqlRunStore

    with (
        Deadline(seconds) as deadline,
        reader_and_publisher(settings, [topic], deadline) as (reader, publisher),
        open_database(settings) as database,
        share_bar() as show,
    ):
        runs = SqlRunStore(database)
        request_id, record = stamped(request)
        publisher.publish([record])
        return follow_run(reader, request_id, lambda: runs.unfinished(agent), show, deadline)


def follow_run(
    reader: Reader, request_id: str, runs: Callable[[], Sequence[Run]], show: ShowShare, deadline: Deadline
) -> RunOutcome | None:
    """Gives the event that ends the run which a request led to; None when it did not come in time."""

    def show_progress() -> None:
        run = next((each for each in runs() if each.arguments.get("cause") == request_id), None)
        if run is not None and run.progress:
            show(float(run.progress.get("done", 0.0)), progress_text(run.progress))

    for event, _ in events_until(reader, deadline, show_progress):
        if isinstance(event, RunOutcome) and event.cause == request_id:
            return event
    return None


def progress_text(progress: JsonObject) -> str:
    """What a run is doing, and how many seconds are left where it reports them."""
    left = progress.get("eta_seconds")
    return f"{progress.get('text', '')}{f', {left:.0f} s left' if left else ''}"
