"""How many threads torch computes with: a team leaves processors to those who use them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.models.threads import NicerTasks, Team, running_tasks, torch_team
from tests.lazily import lazily

torch = lazily("torch")
needs_linux = pytest.mark.skipif(not Path("/proc/loadavg").is_file(), reason="Linux alone tells what runs")


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
