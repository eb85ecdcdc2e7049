"""Ticks: one worker handles each scheduled time once, and the outputs survive a crash."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

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
    rig.clock.now += timedelta(seconds=300)
    assert await Ticker(rig.outbox(), rig.leases, holder="two", clock=rig.clock).beat(_tick(seen))


async def test_the_unpublished_outputs_of_a_tick_are_published_once_after_a_crash(rig: Rig) -> None:
    rig.kafka.away = True
    with pytest.raises(Unavailable):
        await Ticker(rig.outbox(), rig.leases, holder="one", clock=rig.clock).beat(_tick([]))
    rig.kafka.away = False
    rig.clock.now += timedelta(seconds=10)
    outbox = rig.outbox()
    assert [await outbox.relay(ticks_source("recorder")) for _ in range(2)] == [1, 0]
    assert len(rig.outputs()) == 1


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
                rig.clock.now += timedelta(seconds=200)
                other = Ticker(rig.outbox(), rig.leases, holder="quick", clock=lambda: scheduled + timedelta(seconds=1))
                assert rig.leases.acquire("tick/recorder/test", "quick", now=rig.clock.now, seconds=30)
                assert await other.beat(meanwhile)

            def effect() -> list[Output]:
                with rig.database.table("effects") as table:
                    table[name] = 1
                fact = InteractionRecorded(answer_id=name, outcome="pending", revision=1)
                return [Output(event=fact)] * outputs

            return Outcome(effect=effect)

        return Tick(name="test", every_seconds=60, handle=handle)

    slow = Ticker(rig.outbox(), rig.leases, holder="slow", clock=rig.clock)
    with pytest.raises(AlreadyJournaled):
        await slow.beat(tick("slow", tick("quick", None)))
    assert list(rig.counts()) == ["quick"]
    assert len(rig.outputs()) == outputs
