"""Keeps a full disk under a process's log from ending the process."""

from __future__ import annotations

import contextlib
from typing import Any, TextIO


class LossyStream:
    """A text stream that drops what cannot be written. In all else it is the stream that it wraps.

    A line of a log is never worth an exception: it would come out of a place that handles another error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, or drops it."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Writes what is buffered, or drops it."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
