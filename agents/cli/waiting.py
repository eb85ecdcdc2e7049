"""Waits for what a command has asked for: events on a topic, or a run in the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from agents.cli.output import one_line
from infra.kafka import StoredRecord
from schemas.documents import DocumentIndexed, DocumentUnindexed
from schemas.envelope import MalformedRecord, decode
from schemas.event import Event

if TYPE_CHECKING:
    from schemas.delivery import Run

POLL_SECONDS = 0.5


SHOWN_NAMES = 5


WIDEST_NAME = 100


Told = DocumentIndexed | DocumentUnindexed


class Reader(Protocol):
    """Reads what is written to a topic after a moment that was fixed before."""

    def poll(self, timeout_seconds: float) -> Sequence[StoredRecord]: ...


def wait_until_indexed(
    reader: Reader,
    waiting: dict[str, datetime],
    *,
    patience_seconds: float,
    on_indexed: Callable[[Told], None] = lambda _event: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, datetime]:
    """What is still missing after nothing has arrived for so long; nothing when all is searchable.

    ``waiting``: the event time of each key's newest version; a newer one by somebody else counts too.
    """
    missing = dict(waiting)
    deadline = clock() + patience_seconds
    while missing and clock() < deadline:
        for record in reader.poll(POLL_SECONDS):
            try:
                event, _ = decode(record.position.topic, record.value, record.headers, now=datetime.now(UTC))
            except MalformedRecord:
                continue  # somebody else's record; 'tail' shows what is wrong with it
            if not isinstance(event, DocumentIndexed | DocumentUnindexed):
                continue
            if event.key in missing and event.submitted_at >= missing[event.key]:
                del missing[event.key]
                deadline = clock() + patience_seconds
                on_indexed(event)
    return missing


def describe_missing(missing: dict[str, datetime], total: int, patience_seconds: float) -> str:
    """One line that says which documents are not searchable, and where to look."""
    return (
        f"{len(missing):,} of {total:,} documents are not indexed, and nothing came for {patience_seconds:g} s: "
        f"{_names([key.partition('/')[2] for key in missing])}; they are published all the same: see "
        "'everlearn status' and 'everlearn dlq list'"
    )


def describe_empty(names: Sequence[str]) -> str:
    """One line about documents that no search can find."""
    what = "1 document holds" if len(names) == 1 else f"{len(names):,} documents hold"
    return f"{what} nothing that can be searched: {_names(names)}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(one_line(name, WIDEST_NAME) for name in names[:SHOWN_NAMES]) + more


def follow_request(
    reader: Reader,
    request_id: str,
    ends: tuple[type[Event], ...],
    runs: Callable[[], Sequence[Run]],
    show: Callable[[float, str], None],
    *,
    patience_seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Event | None:
    """The event, of one of those types, whose ``cause`` is the request; None when none came in time."""
    deadline = clock() + patience_seconds
    while clock() < deadline:
        for record in reader.poll(POLL_SECONDS):
            try:
                event, _ = decode(record.position.topic, record.value, record.headers, now=datetime.now(UTC))
            except MalformedRecord:
                continue  # somebody else's record; 'tail' shows what is wrong with it
            if isinstance(event, ends) and getattr(event, "cause", None) == request_id:
                return event
        run = next((each for each in runs() if each.arguments.get("cause") == request_id), None)
        if run is not None and run.progress:
            show(float(run.progress.get("done", 0.0)), in_words(run.progress))
    return None


def in_words(progress: dict[str, Any]) -> str:
    """What a run is at, and how long it takes yet where it tells."""
    left = progress.get("eta_seconds")
    return f"{progress.get('text', '')}{f', {left:.0f} s left' if left else ''}"
