"""Runs everything that computes with torch in one thread of the process, so that torch has one set of helper threads.

torch shares each operation between the calling thread and OpenMP's helper threads. OpenMP keeps helpers for every
thread that ever called. When these are together more than the processors, they sleep and wake between operations, and
a model is half as fast.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


class _Current(threading.local):
    is_compute_thread = False


_current = _Current()


def _mark_current() -> None:
    _current.is_compute_thread = True


def _new_pool() -> None:
    global _pool
    _pool = ThreadPoolExecutor(1, "torch", initializer=_mark_current)  # the thread starts with the first call


_pool: ThreadPoolExecutor
_new_pool()
os.register_at_fork(after_in_child=_new_pool)  # a forked child does not inherit its parent's threads


def in_compute_thread(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Makes a function run in the process's compute thread. Calls run one at a time, in the order of asking.

    The caller waits for the result. A function in the compute thread may call another one directly.
    """

    @wraps(call)
    def waiting(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if _current.is_compute_thread:
            return call(*args, **kwargs)
        return _pool.submit(call, *args, **kwargs).result()

    return waiting
