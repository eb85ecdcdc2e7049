"""Repeats an action of a run while a service that it needs is unavailable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from schemas.errors import EngineCrashed, Unavailable

log = structlog.get_logger()
T = TypeVar("T")

PAUSE_SECONDS = 5.0


def retry_while_unavailable(action: Callable[[], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Repeats the action until it raises no Unavailable (SQL, the registry, disk space); returns its result.

    Minutes of work must not be lost because a service is away for a while. Raises EngineCrashed at once, because the
    same work would crash the engine again. Blocks, so it is for a run's child process, not for an event loop.
    """
    while True:
        try:
            return action()
        except EngineCrashed:
            raise
        except Unavailable as error:
            log.warning("waiting", reason=str(error))
            sleep(PAUSE_SECONDS)
