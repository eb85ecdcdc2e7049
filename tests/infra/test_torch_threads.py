"""The threads that torch computes with: one team in a process, which steps back for others."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.torch_threads import NicerTasks, Team, in_one_thread, in_passing_thread, running_tasks, torch_team
from tests.lazily import lazily

torch = lazily("torch")

TASKS = Path("/proc/self/task")
needs_linux = pytest.mark.skipif(not TASKS.is_dir(), reason="Linux alone tells a process's threads and what runs")


@in_one_thread
def current_thread():
    return threading.get_ident()


def test_whoever_calls_one_thread_computes():
    with ThreadPoolExecutor(4) as pool:
        threads = {pool.submit(current_thread).result() for _ in range(20)}
    assert threads == {current_thread()}
    assert threading.get_ident() not in threads


def test_one_call_at_a_time_is_inside():
    inside, most = [], []

    @in_one_thread
    def work():
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(800)]:
            done.result()
    assert (len(most), max(most)) == (800, 1)


def test_who_asks_again_at_once_lets_the_others_go_first():
    order, stop = [], threading.Event()

    @in_one_thread
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
    @in_one_thread
    def fail():
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert current_thread()


def test_what_computes_may_call_what_computes():
    outer = in_one_thread(lambda: (threading.get_ident(), current_thread()))
    assert len(set(outer())) == 1


def test_a_process_that_was_forked_has_a_thread_of_its_own():
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
def test_callers_share_one_team_of_helpers():
    numbers = torch.rand(600, 600)

    def multiply():
        torch.set_num_threads(2)
        try:
            return numbers @ numbers
        finally:
            torch.set_num_threads(1)

    together = in_one_thread(multiply)
    together()
    with ThreadPoolExecutor(3) as pool:
        started = threading.Barrier(3)
        list(pool.map(lambda _: started.wait(), range(3)))
        assert helpers_of(lambda: list(pool.map(lambda _: together(), range(6)))) == 0, "the team was there before"
        assert helpers_of(lambda: in_passing_thread(multiply)()) == 0, "a passing thread leaves none behind"
        assert helpers_of(lambda: list(pool.map(lambda _: multiply(), range(6)))) > 0, "without, each has its own"


class Machine:
    """How many tasks run, as told in turn; the last one for ever."""

    def __init__(self, *running):
        self._running = list(running)
        self.size = None
        self.now = self.nicer = 0.0

    def running(self):
        return self._running.pop(0) if len(self._running) > 1 else self._running[0]

    def become(self, size):
        self.size = size

    def team(self, wanted, processors):
        return Team(
            lambda: wanted, self.become, processors=processors,
            running=self.running, nicer=lambda: self.nicer, clock=lambda: self.now,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "processors", "running", "size"),
    [
        (2, 2, 1, None),  # nobody but the caller
        (2, 2, 2, 1),
        (2, 2, 9, 1),
        (8, 8, 4, 5),
        (8, 64, 30, None),  # more processors than are wanted
        (8, 64, 60, 5),
        (2, 2, None, None),  # not known
        (1, 2, 9, None),
    ],
)
def test_a_team_leaves_processors_to_those_who_use_them(wanted, processors, running, size):
    machine = Machine(running)
    with machine.team(wanted, processors).at_work():
        assert machine.size == size


@pytest.mark.parametrize(("nicer", "size"), [(0.0, 1), (2.6, 4), (5.7, 7), (7.0, None), (9.0, None)])
def test_who_steps_back_for_us_is_left_nothing(nicer, size):
    machine = Machine(8)  # the caller, and a training with seven threads
    machine.nicer = nicer
    with machine.team(8, 8).at_work():
        assert machine.size == size


def test_one_of_several_looks_may_be_chance():
    machine = Machine(3, 1, 1, 1)
    with machine.team(2, 2).at_work(looks=4):
        assert machine.size is None


def test_some_step_back_for_who_comes_and_come_again_when_he_leaves():
    machine = Machine(1, 2, 4, 4, 4, 3, 3, 2, 1)
    team, sizes = machine.team(2, 2), []
    with team.at_work():
        for _ in range(11):
            team.adjust()
            sizes.append(machine.size or 2)
    assert sizes == [2, *[1] * 9, 2], "the threads of the team itself are not others"


def test_after_work_all_threads_are_there_for_the_rest_of_the_process():
    machine = Machine(5)

    def fail():
        with machine.team(2, 2).at_work():
            assert machine.size == 1
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert machine.size == 2


def test_helpers_that_are_still_awake_are_not_others():
    machine = Machine(1, 2)
    team = machine.team(2, 2)
    with team.at_work():
        pass
    with team.at_work():
        assert machine.size is None, "the caller, and a helper of the work before"
    machine.now += 1
    with team.at_work():
        assert machine.size == 1


def test_a_gpu_needs_no_team():
    before = torch.get_num_threads()
    with torch_team("cuda").at_work():
        assert torch.get_num_threads() == before


@needs_linux
def test_who_computes_elsewhere_is_seen():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            deadline = time.monotonic() + 20
            while (running_tasks() or 0) < 2:
                assert time.monotonic() < deadline, "a process that never sleeps runs all the time"
                time.sleep(0.005)
        finally:
            other.kill()


@needs_linux
def test_who_steps_back_is_seen(monkeypatch):
    with subprocess.Popen(["nice", "-n", "10", sys.executable, "-c", "while True: pass"]) as other:
        try:
            nicer = NicerTasks()
            deadline = time.monotonic() + 20
            while nicer() < 0.02:
                assert time.monotonic() < deadline, "a twentieth of a processor is left to it at least"
                time.sleep(0.05)
            monkeypatch.setattr(os, "getpriority", lambda which, who: 10)
            assert nicer() == 0, "for one that steps back itself it is an equal"
        finally:
            other.kill()


def test_all_models_of_a_process_have_one_team():
    assert torch_team("cpu") is torch_team("cpu")
