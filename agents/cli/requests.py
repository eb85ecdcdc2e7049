"""Waits for what a request leads to, and shows meanwhile how far the run is that does it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agents.cli.indexing import Reader
from schemas.envelope import MalformedRecord, decode
from schemas.event import Event

if TYPE_CHECKING:
    from schemas.delivery import Run

POLL_SECONDS = 0.5


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
