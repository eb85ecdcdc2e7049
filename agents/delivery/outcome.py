"""Describes what a handler returns for an event: events to publish, a change to commit, work to start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from schemas.event import Event, JsonObject


@dataclass(frozen=True, kw_only=True)
class Output:
    """An event to publish. ``time`` is when the fact happened; the moment of handling where it is None."""

    event: Event
    time: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """Long work to start: a kind that the worker knows, and arguments that fit in JSON."""

    kind: str
    arguments: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of handling one event.

    ``effect`` runs inside the journal's SQL transaction, after the handler. It may return more outputs and runs, for
    what is only known there. It may run more than once, so it reads what it needs inside the transaction.
    ``after`` runs once the transaction is committed. A crash may lose it, so it may only do earlier what a tick does
    anyway.
    """

    outputs: Sequence[Output] = ()
    effect: Callable[[], Sequence[Output | RunRequest]] | None = None
    runs: Sequence[RunRequest] = ()
    after: Callable[[], object] | None = None


NOTHING = Outcome()
"""The outcome of an event that needs no reaction; the event is still journaled and acked."""
