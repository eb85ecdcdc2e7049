"""Repeats an action of a run while a service that it needs is unavailable."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from agents.delivery.progress import read_progress, write_progress
from schemas.errors import unavailable

log = structlog.get_logger()
T = TypeVar("T")

PAUSE_SECONDS = 5.0


def retry_while_unavailable(action: Callable[[], T], folder: Path, sleep: Callable[[float], None] = time.sleep) -> T:
    """Repeats the action while SQL, the registry or disk space is unavailable; returns its result.

    ``folder``: the run's, whose progress says what it waits for. Minutes of work must not be lost because a service is
    away for a while. Raises EngineCrashed at once, because the same work would crash the engine again. Blocks, so it is
    for a run's child process, not for an event loop.
    """
    while True:
        try:
            return action()
        except Exception as error:
            wait = unavailable(error)
            if wait is None:
                raise
            log.warning("waiting", reason=str(wait))
            with contextlib.suppress(OSError):  # the disk itself may be full
                write_progress(folder, read_progress(folder).get("done", 0.0), f"waiting: {wait}")
            sleep(PAUSE_SECONDS)
