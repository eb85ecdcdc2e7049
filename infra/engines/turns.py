"""A lock whose turns go in the order of asking: a thread that asks again and again cannot keep the others out."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A context manager that one thread at a time is inside of; not to be entered twice by one thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()  # handed over, so that nobody can slip in between
            else:
                self._taken = False
