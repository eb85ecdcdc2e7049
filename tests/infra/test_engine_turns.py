"""Turns at an engine: one thread inside at a time, in the order in which they asked."""

import threading
import time

import pytest

from infra.engines.turns import Turns


def test_one_thread_at_a_time_is_inside():
    turns, inside, most = Turns(), [], []

    def work():
        for _ in range(200):
            with turns:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (len(most), max(most)) == (800, 1)


def test_who_asks_again_at_once_lets_the_others_go_first():
    turns, order = Turns(), []
    stop = threading.Event()

    def greedy():
        while not stop.is_set():
            with turns:
                order.append("greedy")
                time.sleep(0.002)

    thread = threading.Thread(target=greedy)
    thread.start()
    time.sleep(0.01)
    for _ in range(5):
        before = len(order)
        with turns:
            assert len(order) - before <= 2, "at most the turn that was under way, and one that was asked for before"
    stop.set()
    thread.join(10)


def test_a_failure_inside_gives_the_turn_on():
    turns = Turns()
    with pytest.raises(RuntimeError), turns:
        raise RuntimeError("inside")
    with turns:
        pass
