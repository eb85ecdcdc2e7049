"""How preparations that take seconds or minutes report where they are, such as a download or a conversion."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done."""
TrainingProgress = Callable[[float, str, float | None], None]
"""Called with the share that is done, what is being done, and in how many seconds it will be finished."""


def silent(done: float, text: str) -> None:
    """Progress that nobody watches."""
