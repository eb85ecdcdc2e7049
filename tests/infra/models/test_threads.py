"""A process computes in one thread, whoever asks, and with a fixed number of helpers."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.models.threads import in_compute_thread
from tests.lazily import lazily

torch = lazily("torch")

TASKS = Path("/proc/self/task")
needs_linux = pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux lists a process's threads")


@in_compute_thread
def current_thread():
    return threading.get_ident()


def test_calls_from_any_thread_run_in_one():
    with ThreadPoolExecutor(4) as pool:
        threads = {pool.submit(current_thread).result() for _ in range(20)}
    assert threads == {current_thread()}
    assert threading.get_ident() not in threads


def test_calls_run_one_at_a_time():
    inside, most = [], []

    @in_compute_thread
    def work():
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(800)]:
            done.result()
    assert (len(most), max(most)) == (800, 1)


def test_a_caller_that_asks_again_waits_behind_the_others():
    order, stop = [], threading.Event()

    @in_compute_thread
    def turn(name):
        order.append(name)
        time.sleep(0.002)

    def greedy():
        while not stop.is_set():
            turn("greedy")

    thread = threading.Thread(target=greedy)
    thread.start()
    time.sleep(0.01)
    for _ in range(5):
        before = len(order)
        turn("other")
        assert order[before:].index("other") <= 2, "at most the turn under way, and one that was asked for before"
    stop.set()
    thread.join(10)


def test_a_failure_reaches_its_caller_and_nobody_else():
    @in_compute_thread
    def fail():
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert current_thread()


def test_a_call_in_the_compute_thread_may_make_another():
    outer = in_compute_thread(lambda: (threading.get_ident(), current_thread()))
    assert len(set(outer())) == 1


def test_a_forked_process_has_a_compute_thread_of_its_own():
    current_thread()
    child = os.fork()
    if child == 0:
        os._exit(7 if current_thread() else 1)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended[1]) == 7, "it waits for a thread that only its parent has"


def helpers_of(call):
    before = {each.name for each in TASKS.iterdir()}
    call()
    time.sleep(0.05)  # a thread that has ended is gone a moment later
    return len({each.name for each in TASKS.iterdir()} - before)


@needs_linux
def test_callers_share_the_helpers_of_one_thread():
    numbers = torch.rand(600, 600)

    def multiply():
        torch.set_num_threads(2)
        try:
            return numbers @ numbers
        finally:
            torch.set_num_threads(1)

    together = in_compute_thread(multiply)
    together()
    with ThreadPoolExecutor(3) as pool:
        started = threading.Barrier(3)
        list(pool.map(lambda _: started.wait(), range(3)))
        assert helpers_of(lambda: list(pool.map(lambda _: together(), range(6)))) == 0, "the helpers were there before"
        assert helpers_of(lambda: list(pool.map(lambda _: multiply(), range(6)))) > 0, "without, each has its own"
