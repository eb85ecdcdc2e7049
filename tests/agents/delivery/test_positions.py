"""Messages that Faust skips are requested again; messages that Kafka no longer has are not waited for."""

from __future__ import annotations

import random

import pytest

from agents.delivery.positions import ASK_AGAIN_SECONDS, Arrival, Positions

pytestmark = pytest.mark.fast
P = "questions.v1/4"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def positions(clock: Clock) -> Positions[str]:
    positions: Positions[str] = Positions(clock)
    positions.begin(P, 5)
    return positions


def arrivals(positions: Positions[str], *offsets: int) -> list[Arrival]:
    return [positions.arrived(P, offset) for offset in offsets]


def test_messages_in_order_are_delivered(positions: Positions[str]) -> None:
    assert arrivals(positions, 5, 6, 7) == [Arrival.NEXT] * 3
    assert positions.next(P) == 8


def test_messages_that_arrive_again_are_ignored(positions: Positions[str]) -> None:
    assert arrivals(positions, 5, 6, 5, 6, 7) == [
        Arrival.NEXT,
        Arrival.NEXT,
        Arrival.PASSED,
        Arrival.PASSED,
        Arrival.NEXT,
    ]


def test_skipped_messages_are_requested_and_delivered_in_order(positions: Positions[str]) -> None:
    assert arrivals(positions, 5, 8) == [Arrival.NEXT, Arrival.MISSING]
    assert positions.next(P) == 6
    positions.asked(P, 6)
    assert arrivals(positions, 9) == [Arrival.AHEAD]
    assert arrivals(positions, 6, 7, 8, 9) == [Arrival.NEXT] * 4


def test_a_request_without_an_answer_is_repeated(positions: Positions[str], clock: Clock) -> None:
    assert arrivals(positions, 8) == [Arrival.MISSING]
    positions.asked(P, 5)
    assert arrivals(positions, 9) == [Arrival.AHEAD]
    clock.now += ASK_AGAIN_SECONDS
    assert arrivals(positions, 10) == [Arrival.MISSING]


def test_after_a_rebalance_each_partition_starts_at_its_new_offset(positions: Positions[str]) -> None:
    positions.forget()
    assert positions.next(P) is None
    positions.begin(P, 2)
    assert arrivals(positions, 2) == [Arrival.NEXT]


@pytest.mark.parametrize("seed", range(100))
def test_all_messages_are_delivered_once_in_order_whatever_a_rebalance_drops(seed: int) -> None:
    """Simulates a consumer that drops fetched messages at a rebalance and may continue behind them."""
    chance = random.Random(seed)
    clock = Clock()
    exists = [offset for offset in range(200) if chance.random() < 0.9]
    positions: Positions[int] = Positions(clock)
    positions.begin(0, 0)
    buffered: list[int] = []
    delivered: list[int] = []
    position = rebalances = 0
    for _ in range(2_000):
        clock.now += chance.random()
        if chance.random() < 0.2:
            rebalances += 1
            buffered = [offset for offset in buffered if chance.random() > 0.5]
            committed = delivered[-1] + 1 if delivered else 0
            positions.forget()
            positions.begin(0, committed)
            position = chance.choice([position, committed])
        fetched = [offset for offset in exists if offset >= position][: chance.randrange(1, 6)]
        position = fetched[-1] + 1 if fetched else position
        buffered += fetched
        if not buffered:
            position = positions.next(0) or 0  # nothing arrives, so the missing messages are requested
        while buffered and chance.random() > 0.2:
            offset = buffered.pop(0)
            arrival = positions.arrived(0, offset)
            if arrival is Arrival.MISSING:
                position = next(each for each in exists if each >= (positions.next(0) or 0))
                if position < offset:
                    positions.asked(0, position)
                    continue
                positions.begin(0, offset + 1)
            if arrival in (Arrival.NEXT, Arrival.MISSING):
                delivered.append(offset)
    assert rebalances > 100
    assert delivered == exists
