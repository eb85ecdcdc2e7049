"""Heartbeats of the worker processes."""

from __future__ import annotations

import operator
from typing import ClassVar, Literal

from pydantic import Field

from schemas.event import Event, Name, Value

WorkerState = Literal["starting", "ready", "waiting", "stopping"]
"""``waiting``: the worker cannot reach something that it needs, and keeps trying."""


class Serving(Value):
    """The adapters that an answerer serves for a task, and the sequence of the release.

    ``differs``: in which parts the task is not the one that an adapter was validated on, a sentence each.
    """

    task: Name
    sequence: int = Field(default=0, ge=0)
    adapters: tuple[str, ...] = ()
    differs: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)


class WorkerReported(Event):
    """A worker process reported that it is alive, and its state."""

    type: ClassVar[str] = "everlearn.worker.reported.v1"
    worker: str
    agent: Name
    host: str
    pid: int
    state: WorkerState
    lag: int | None = None
    """Number of events that wait in the partitions assigned to this worker; None while unknown."""
    serves: tuple[Serving, ...] = ()
    detail: str | None = None

    @property
    def key(self) -> str:
        return self.worker
