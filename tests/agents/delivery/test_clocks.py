"""A clock that jumps: what time it may be at most, and at least."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agents.delivery.clocks import SteadyClock
from schemas.envelope import MAX_CLOCK_SKEW, MalformedRecord, decode, encode, new_context
from schemas.interactions import FeedbackGiven, InteractionRecorded

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


class Clocks:
    """A wall clock that can be set, and the seconds since the start."""

    def __init__(self) -> None:
        self.wall = START
        self.seconds = 0.0
        self.steady = SteadyClock(lambda: self.wall, lambda: self.seconds)


def test_a_clock_that_goes_well_is_both_the_latest_and_the_earliest_time() -> None:
    clocks = Clocks()
    clocks.seconds, clocks.wall = 5.0, START + timedelta(seconds=5)
    assert clocks.steady.latest() == clocks.steady.earliest() == clocks.wall


def test_a_clock_that_is_put_back_does_not_change_the_latest_time() -> None:
    clocks = Clocks()
    clocks.seconds, clocks.wall = 60.0, START - DAY
    assert clocks.steady.latest() == START + timedelta(seconds=60)


def test_a_clock_that_is_put_forward_does_not_change_the_earliest_time() -> None:
    clocks = Clocks()
    clocks.seconds, clocks.wall = 60.0, START + 30 * DAY
    assert clocks.steady.earliest() == START + timedelta(seconds=60)
    assert clocks.steady.latest() == clocks.wall


def test_a_process_that_starts_with_a_clock_behind_knows_what_time_has_been() -> None:
    clocks = Clocks()
    clocks.steady.has_been(START + DAY)
    clocks.steady.has_been(START)
    assert clocks.steady.latest() == START + DAY


def test_an_output_of_an_agent_whose_clock_is_ahead_happened_when_it_was_read() -> None:
    fact = InteractionRecorded(answer_id="a1", outcome="pending", revision=1)
    record = encode(fact, new_context("/everlearn/recorder", now=START + DAY))
    _, context = decode(record.topic, record.value, record.headers, now=START)
    assert context.time == START
    skewed = encode(fact, new_context("/everlearn/recorder", now=START + MAX_CLOCK_SKEW))
    assert decode(skewed.topic, skewed.value, skewed.headers, now=START)[1].time == START + MAX_CLOCK_SKEW


@pytest.mark.parametrize("source", ["/everlearn/cli", "/everlearn/recorder", "/everlearn/clients"])
def test_an_event_from_outside_and_from_the_future_is_refused(source: str) -> None:
    event = FeedbackGiven(answer_id="a1", rating="up")
    record = encode(event, new_context(source, now=START + DAY))
    with pytest.raises(MalformedRecord, match="set the sender's clock"):
        decode(record.topic, record.value, record.headers, now=START)
