"""Waits in a flow until something has happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def until(find: Callable[[], T | None], seconds: float = 60, *, every: float = 0.1) -> T:
    """Returns the first value that is true, and fails the test when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := find():
            return found
        time.sleep(every)
    pytest.fail(f"it did not happen within {seconds:g} s")
