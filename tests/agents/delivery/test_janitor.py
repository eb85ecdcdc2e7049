"""The janitor: each cleaner in its time, whatever the others do, and never by a clock that has jumped ahead."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from agents.delivery.janitor import CATCH_UP, Janitor
from agents.delivery.ticks import Ticker
from agents.delivery.worker import Cleaner
from schemas.errors import Unavailable
from tests.agents.delivery.rig import START, Rig


class Calls:
    """Cleaners that write down at which time they were called."""

    def __init__(self) -> None:
        self.times: dict[str, list[datetime]] = {}

    def cleaner(
        self, name: str, *, fail: Exception | None = None, every_seconds: float = 60.0, everywhere: bool = False
    ) -> Cleaner:
        def clean(now: datetime) -> int:
            self.times.setdefault(name, []).append(now)
            if fail is not None:
                raise fail
            return 3

        return Cleaner(name=name, clean=clean, every_seconds=every_seconds, everywhere=everywhere)


def janitor(rig: Rig, *cleaners: Cleaner, clock: Callable[[], datetime] | None = None) -> Janitor:
    return Janitor("recorder", cleaners, rig.leases, clock=clock or rig.clock)


async def beat(rig: Rig, janitor: Janitor, holder: str = "one") -> bool:
    return await Ticker(rig.outbox(), rig.leases, holder=holder, clock=rig.clock).beat(janitor.tick)


async def test_a_cleaner_that_fails_does_not_keep_the_others_from_their_work() -> None:
    rig, calls = Rig(), Calls()
    failures = (calls.cleaner("away", fail=Unavailable("SQL is away")), calls.cleaner("broken", fail=TypeError("oh")))
    with capture_logs() as logs:
        assert await beat(rig, janitor(rig, *failures, calls.cleaner("sound")))
    assert calls.times == {name: [START] for name in ("away", "broken", "sound")}
    assert [(line["event"], line["cleaner"]) for line in logs] == [
        ("waiting", "away"),
        ("not deleted", "broken"),
        ("deleted", "sound"),
    ]


async def test_one_worker_of_the_fleet_cleans_and_nothing_is_journaled() -> None:
    rig, calls = Rig(), Calls()
    workers = [janitor(rig, calls.cleaner("rows")) for _ in range(2)]
    assert [await beat(rig, each, name) for each, name in zip(workers, ("one", "two"), strict=True)] == [True, False]
    assert calls.times == {"rows": [START]}
    with rig.database.table("journal") as journal:
        assert not journal


async def test_files_of_a_machine_are_cleaned_by_each_of_its_workers_once_the_fleets_time_is_known() -> None:
    rig, calls = Rig(), Calls()
    workers = [janitor(rig, calls.cleaner("files", everywhere=True)) for _ in range(2)]
    await workers[0].chore.do()
    assert calls.times == {}
    await beat(rig, workers[0])
    assert calls.times == {}
    for each in workers:
        await each.chore.do()
    assert calls.times == {"files": [START, START]}


async def test_each_cleaner_has_its_own_period() -> None:
    rig, calls = Rig(), Calls()
    worker = janitor(rig, calls.cleaner("often", every_seconds=10.0), calls.cleaner("seldom", every_seconds=60.0))
    for _ in range(13):
        await beat(rig, worker)
        rig.clock.now += timedelta(seconds=10)
    assert {name: len(times) for name, times in calls.times.items()} == {"often": 13, "seldom": 3}


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(hours=20)])
async def test_a_clock_that_jumps_ahead_for_some_minutes_ages_nothing_by_more_than_hours(jump: timedelta) -> None:
    rig, calls = Rig(), Calls()
    worker = janitor(rig, calls.cleaner("rows"), calls.cleaner("files", everywhere=True))
    await beat(rig, worker)
    rig.clock.now += jump
    for _ in range(5):
        rig.clock.now += timedelta(minutes=1)
        assert await beat(rig, worker)
        await worker.chore.do()
    assert max(calls.times["rows"] + calls.times["files"]) == START + 5 * timedelta(seconds=60 * CATCH_UP)


async def test_after_a_long_rest_the_janitor_catches_up_and_says_so_once() -> None:
    rig, calls = Rig(), Calls()
    worker = janitor(rig, calls.cleaner("rows"))
    await beat(rig, worker)
    rig.clock.now += timedelta(days=10)
    with capture_logs() as logs:
        for _ in range(300):
            rig.clock.now += timedelta(minutes=1)
            await beat(rig, worker)
    assert calls.times["rows"][-1] == rig.clock.now
    assert sum(line["event"] == "the janitor catches up with the clock" for line in logs) == 1


async def test_a_clock_that_went_back_is_believed() -> None:
    """Being too young deletes nothing."""
    rig, calls = Rig(), Calls()
    worker = janitor(rig, calls.cleaner("files", everywhere=True))
    await beat(rig, worker)
    rig.clock.now -= timedelta(days=3)
    await worker.chore.do()
    assert calls.times == {"files": [START - timedelta(days=3)]}
