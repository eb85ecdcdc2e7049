"""The threads that torch computes with: one team in a process, and no larger than the processors that are free.

torch shares each operation between the thread that asks for it and helpers (OpenMP). Each thread that ever asked keeps
helpers of its own, and where these are more than the processors all of them sleep and wake between operations. And
helpers who stay awake, as those of a lone team do, wait in a loop for one that another process has pushed aside.
Figures of both are in docs/benchmarks.md.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, wraps
from math import inf
from pathlib import Path
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_NEWS = 0.3
"""What one look at who else runs counts for, beside all before it."""
_BETWEEN_LOOKS = 0.001
"""Seconds."""
_WINDOW = 0.2
"""Seconds over which it is measured what nicer tasks use: the kernel counts in hundredths."""
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_AWAKE = 0.03
"""Seconds that helpers wait for more in a loop, after an operation; then they sleep."""


class _Computing(threading.local):
    inside = False


_computing = _Computing()


def _enter() -> None:
    _computing.inside = True


def _new_pool() -> None:
    global _pool
    _pool = ThreadPoolExecutor(1, "torch", initializer=_enter)  # its thread begins with the first call


_pool: ThreadPoolExecutor
_new_pool()
os.register_at_fork(after_in_child=_new_pool)


def in_one_thread(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same, in the one thread of this process that computes. Calls take turns in the order of asking."""

    @wraps(call)
    def waiting(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if _computing.inside:
            return call(*args, **kwargs)
        return _pool.submit(call, *args, **kwargs).result()

    return waiting


def in_passing_thread(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """The same, at once, in a thread that ends with it, and its helpers too: beside one that computes."""

    @wraps(call)
    def waiting(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with ThreadPoolExecutor(1, "passing") as passing:
            return passing.submit(call, *args, **kwargs).result()

    return waiting


class Team:
    """How many threads compute: all that are wanted, less one for each processor that somebody else is using."""

    def __init__(
        self,
        wanted: Callable[[], int],
        become: Callable[[int], object],
        *,
        processors: int | None = None,
        running: Callable[[], int | None] | None = None,
        nicer: Callable[[], float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``wanted``: how many, asked before each work; ``become`` sets the number. ``running``: tasks of the whole
        machine that run or could, our own among them; None where that is not known, and then all wanted ones compute
        always. ``nicer``: how many processors are used by tasks that step back for us, such as a training.
        """
        self._ask, self._become = wanted, become
        self._processors = processors or os.cpu_count() or 1
        self._running, self._nicer, self._clock = running or running_tasks, nicer or NicerTasks(), clock
        self._wanted, self._size, self._others = 1, 1, 0.0
        self._ended, self._last_size = -inf, 1

    @contextmanager
    def at_work(self, looks: int = 1) -> Iterator[None]:
        """For one operation or many. ``looks``, a millisecond apart: whoever asked for it may have run just now."""
        self._wanted = self._size = self._ask()
        if self._wanted == 1:
            yield
            return
        ours = self._last_size if self._clock() - self._ended < _AWAKE else 1
        seen = []
        for look in range(looks):
            if look:
                time.sleep(_BETWEEN_LOOKS)
            seen.append(self._look(ours))
        self._resize(sum(seen) / looks)
        try:
            yield
        finally:
            self._ended, self._last_size = self._clock(), self._size
            self._become_of(self._wanted)

    def adjust(self) -> None:
        """Between two operations: some step back for others that have come since, or come again."""
        if self._wanted > 1:
            self._resize(self._others + _NEWS * (self._look(self._size) - self._others))

    def _look(self, ours: int) -> float:
        """How many others run, but for those who step back for us."""
        running = self._running()
        return 0 if running is None or running <= ours else max(0.0, running - ours - self._nicer())

    def _resize(self, others: float) -> None:
        self._others = others
        self._become_of(max(1, min(self._wanted, self._processors - round(others))))

    def _become_of(self, size: int) -> None:
        if size != self._size:
            self._become(size)
            self._size = size


def torch_team(device: str) -> Team:
    """The team of this process's torch; on any other device than ``cpu`` its threads have little to do, and stay."""
    return _of_this_process() if device == "cpu" else Team(lambda: 1, lambda _: None)


@cache
def _of_this_process() -> Team:
    """One for all models: the helpers who have just worked at one of them are not others for the next."""
    import torch

    return Team(torch.get_num_threads, torch.set_num_threads)


def running_tasks() -> int | None:
    """Of the whole machine, as Linux counts them."""
    try:
        return int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return None


class NicerTasks:
    """How many processors tasks with a niceness use, as Linux counts it; 0 for a process that has one itself."""

    def __init__(self) -> None:
        self._at, self._ticks, self._used = time.monotonic(), _nice_ticks(), 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if now - self._at >= _WINDOW:
            ticks = _nice_ticks()
            self._used = (ticks - self._ticks) / _TICKS_A_SECOND / (now - self._at)
            self._at, self._ticks = now, ticks
        return self._used if os.getpriority(os.PRIO_PROCESS, 0) <= 0 else 0.0


def _nice_ticks() -> int:
    try:
        return int(Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=3)[2])
    except (OSError, ValueError, IndexError):
        return 0
