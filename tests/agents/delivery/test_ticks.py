"""Ticks: one worker handles each scheduled time once, and the outputs survive a crash."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from agents.delivery.outcome import Outcome, Output
from agents.delivery.ticks import Ticker, scheduled_time, ticks_source
from agents.delivery.worker import Tick
from schemas.envelope import derived_id
from schemas.errors import AlreadyJournaled, Unavailable
from schemas.interactions import InteractionRecorded
from tests.agents.delivery.rig import Rig


@pytest.fixture
def rig() -> Rig:
    return Rig()


def _tick(seen: list[datetime]) -> Tick:
    async def handle(scheduled: datetime) -> Outcome:
        seen.append(scheduled)
        fact = InteractionRecorded(answer_id="tick", outcome="pending", revision=len(seen))
        return Outcome(outputs=[Output(event=fact)])

    return Tick(name="test", every_seconds=60, handle=handle)


def test_the_scheduled_time_is_the_same_for_every_worker() -> None:
    now = datetime(2026, 1, 1, 12, 34, 56, tzinfo=UTC)
    assert scheduled_time(now, 60) == datetime(2026, 1, 1, 12, 34, tzinfo=UTC)
    assert scheduled_time(now + timedelta(seconds=3), 60) == scheduled_time(now, 60)


async def test_two_workers_handle_a_scheduled_time_once(rig: Rig) -> None:
    seen: list[datetime] = []
    tickers = [Ticker(rig.outbox(), rig.leases, holder=name, clock=rig.clock) for name in ("one", "two")]
    beats = [await ticker.beat(_tick(seen)) for ticker in tickers * 3]
    assert beats.count(True) == len(seen) == len(rig.outputs()) == 1


async def test_the_next_scheduled_time_is_handled_when_it_comes(rig: Rig) -> None:
    seen: list[datetime] = []
    ticker = Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock)
    for _ in range(4):
        await ticker.beat(_tick(seen))
        rig.clock.now += timedelta(seconds=30)
    assert [each.second for each in seen] == [0, 0]
    assert len({dict(record.headers)["ce_id"] for record in rig.outputs()}) == 2


async def test_another_worker_takes_over_when_the_holder_is_gone(rig: Rig) -> None:
    seen: list[datetime] = []
    await Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock).beat(_tick(seen))
    rig.clock.now += timedelta(seconds=60)
    other = Ticker(rig.outbox(), rig.leases, holder="two", clock=rig.clock)
    assert not await other.beat(_tick(seen))
    rig.seconds += 120
    assert await other.beat(_tick(seen))


async def test_the_unpublished_outputs_of_a_tick_are_published_once_after_a_crash(rig: Rig) -> None:
    rig.kafka.away = True
    with pytest.raises(Unavailable):
        await Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock).beat(_tick([]))
    rig.kafka.away = False
    rig.clock.now -= timedelta(days=1)  # the clock, which was ahead, was put right
    outbox = rig.outbox()
    assert [await outbox.relay([ticks_source("recorder")]) for _ in range(3)] == [0, 1, 0]
    assert len(rig.outputs()) == 1


async def test_a_tick_that_fails_in_any_way_is_logged_and_beats_again(rig: Rig) -> None:
    faults: list[Exception] = [TypeError("a defect"), Unavailable("SQL is away"), AlreadyJournaled("by another")]
    beats = 0

    async def handle(scheduled: datetime) -> Outcome:
        if faults:
            raise faults.pop(0)
        return Outcome()

    async def sleep(seconds: float) -> None:
        nonlocal beats
        beats += 1
        if beats == 4:
            raise asyncio.CancelledError

    ticker = Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock)
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await ticker.run(Tick(name="test", every_seconds=60, handle=handle), sleep)
    assert [(line["event"], line["tick"], line.get("error") or line["reason"]) for line in logs] == [
        ("tick failed", "test", "TypeError: a defect"),
        ("waiting", "test", "SQL is away"),
    ]
    assert rig.leases.last("tick/recorder/test") == scheduled_time(rig.clock.now, 60)


@pytest.mark.parametrize("jump", [timedelta(minutes=5), timedelta(hours=1), timedelta(days=30)])
async def test_a_clock_that_jumps_ahead_and_back_silences_no_tick_and_doubles_no_id(rig: Rig, jump: timedelta) -> None:
    seen: list[datetime] = []
    ticker = Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock)

    async def minutes(count: int) -> int:
        done = 0
        for _ in range(count):
            done += await ticker.beat(_tick(seen))
            rig.clock.now += timedelta(minutes=1)
        return done

    assert await minutes(3) == 3
    rig.clock.now += jump
    assert await minutes(3) == 3
    rig.clock.now -= jump
    assert await minutes(10) == 10
    rig.clock.now -= jump
    assert await minutes(10) == 10
    rig.clock.now += jump
    assert await minutes(60) >= 60 - 10  # the times that were handled before the jump are not handled again
    ids = [dict(record.headers)["ce_id"] for record in rig.outputs()]
    assert len(set(ids)) == len(ids) == len(seen)


async def test_ticks_wait_for_a_clock_that_was_put_back_a_little(rig: Rig) -> None:
    seen: list[datetime] = []
    ticker = Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock)
    await ticker.beat(_tick(seen))
    rig.clock.now -= timedelta(seconds=10)
    assert not await ticker.beat(_tick(seen))
    rig.clock.now += timedelta(seconds=70)
    assert await ticker.beat(_tick(seen))


async def test_a_worker_whose_clock_is_behind_does_not_repeat_ticks_while_another_holds_the_lease(rig: Rig) -> None:
    seen: list[datetime] = []
    behind = Ticker(rig.outbox(), rig.leases, holder="behind", clock=lambda: rig.clock.now - timedelta(hours=2))
    right = Ticker(rig.outbox(), rig.leases, holder="right", clock=rig.clock)
    for _ in range(5):
        assert await right.beat(_tick(seen))
        assert not await behind.beat(_tick(seen))
        rig.clock.now += timedelta(seconds=60)
        rig.seconds += 60
    assert len(seen) == 5


def _quiet(effects: list[datetime], *, outputs: int = 0) -> Tick:
    async def handle(scheduled: datetime) -> Outcome:
        def effect() -> list[Output]:
            effects.append(scheduled)
            fact = InteractionRecorded(answer_id="tick", outcome="pending", revision=1)
            return [Output(event=fact)] * outputs

        return Outcome(effect=effect)

    return Tick(name="test", every_seconds=60, handle=handle)


def _journaled(rig: Rig, scheduled: datetime) -> bool:
    context_id = derived_id("recorder", "test", scheduled.isoformat())
    name = f"{ticks_source('recorder')} {context_id}"
    return name in rig.journal.find("recorder", [name])


@pytest.mark.parametrize("outputs", [0, 1])
async def test_only_a_tick_with_outputs_is_journaled(rig: Rig, outputs: int) -> None:
    effects: list[datetime] = []
    ticker = Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock)
    assert await ticker.beat(_quiet(effects, outputs=outputs))
    assert _journaled(rig, effects[0]) is bool(outputs)
    assert not await ticker.beat(_quiet(effects, outputs=outputs))
    assert len(effects) == 1


@pytest.mark.parametrize("outputs", [0, 1])
async def test_a_worker_whose_lease_ran_out_while_it_worked_commits_nothing(rig: Rig, outputs: int) -> None:
    """The other worker took the tick over and did it: the slow worker's change must not happen a second time."""

    def tick(name: str, meanwhile: Tick | None) -> Tick:
        async def handle(scheduled: datetime) -> Outcome:
            if meanwhile is not None:
                other = Ticker(rig.outbox(), leases, holder="quick", clock=lambda: scheduled + timedelta(seconds=1))
                assert not await other.beat(meanwhile)
                rig.clock.now += timedelta(seconds=200)
                rig.seconds += 200
                assert await other.beat(meanwhile)

            def effect() -> list[Output]:
                with rig.database.table("effects") as table:
                    table[name] = 1
                fact = InteractionRecorded(answer_id=name, outcome="pending", revision=1)
                return [Output(event=fact)] * outputs

            return Outcome(effect=effect)

        return Tick(name="test", every_seconds=60, handle=handle)

    leases = rig.leases
    slow = Ticker(rig.outbox(), rig.leases, holder="slow", clock=rig.clock)
    with pytest.raises(AlreadyJournaled):
        await slow.beat(tick("slow", tick("quick", None)))
    assert list(rig.counts()) == ["quick"]
    assert len(rig.outputs()) == outputs
