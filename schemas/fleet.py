"""Heartbeats of the agent processes."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from schemas.event import Event, Name, Value

WorkerState = Literal["starting", "ready", "waiting", "stopping"]
"""``waiting``: something that the worker needs cannot be reached; it keeps trying."""


class Serving(Value):
    """What an answerer serves for a task."""

    task: Name
    sequence: int = Field(default=0, ge=0)
    adapters: tuple[str, ...] = ()


class WorkerReported(Event):
    """A worker process is alive, and in what state."""

    type: ClassVar[str] = "everlearn.worker.reported.v1"
    worker: str
    agent: Name
    host: str
    pid: int
    state: WorkerState
    lag: int | None = None
    """Events that wait in the partitions assigned to this worker; None while unknown."""
    serves: tuple[Serving, ...] = ()
    detail: str | None = None

    @property
    def key(self) -> str:
        return self.worker
