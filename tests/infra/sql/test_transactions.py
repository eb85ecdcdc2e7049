"""The contract of transactions: all changes or none, across all stores, whatever other workers do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from threading import Barrier

import pytest

from schemas.errors import AlreadyJournaled
from schemas.features import Interaction
from tests.fixtures.sql import Stores
from tests.infra.sql.test_documents import KEY, STATE
from tests.infra.sql.test_features import example
from tests.infra.sql.test_journal import mark, record

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Broken(Exception):
    """Raised by the handler of a test."""


def write_everywhere(stores: Stores) -> None:
    stores.journal.add("a", "e1", [record()], NOW)
    stores.marks.write("a", [mark(0)])
    stores.runs.add("a", "r1", "train", {}, {}, NOW)
    stores.leases.set_last("tick", NOW)
    stores.documents.put(STATE)
    stores.retired.add("default", "d", "v1", NOW)
    stores.features.put_interaction(Interaction(answer_id="a1"))
    stores.features.put_example(example(1))


def what_is_there(stores: Stores) -> list[object]:
    return [
        len(stores.journal.find("a", ["e1"])),
        len(stores.marks.read("a")),
        int(stores.runs.show("r1") is not None),
        int(stores.leases.last("tick") is not None),
        len(stores.documents.current([KEY])),
        len(stores.retired.list(10)),
        len(stores.features.interactions(["a1"])),
        len(stores.features.examples(example(1).task, 10)),
    ]


def fail_after(stores: Stores, change: Callable[[], None]) -> None:
    with stores.database.transaction():
        change()
        raise Broken


def test_what_a_transaction_wrote_is_there_afterwards_in_every_store(stores: Stores):
    with stores.database.transaction():
        write_everywhere(stores)
        assert what_is_there(stores) == [1] * 8

    assert what_is_there(stores) == [1] * 8


def test_a_failure_undoes_all_stores_together(stores: Stores):
    with pytest.raises(Broken):
        fail_after(stores, lambda: write_everywhere(stores))

    assert what_is_there(stores) == [0] * 8


def test_a_failure_undoes_changes_to_rows_that_were_there_before(stores: Stores):
    stores.documents.put(STATE)
    stores.journal.add("a", "e1", [record()], NOW)

    def change() -> None:
        stores.documents.put(replace(STATE, version="v2"))
        stores.journal.mark_published("a", ["e1"])

    with pytest.raises(Broken):
        fail_after(stores, change)

    assert stores.documents.current([KEY]) == {KEY: STATE}
    assert not stores.journal.find("a", ["e1"])["e1"].published


def test_an_inner_transaction_belongs_to_the_outer_one(stores: Stores):
    def change() -> None:
        with stores.database.transaction():
            stores.documents.put(STATE)

    with pytest.raises(Broken):
        fail_after(stores, change)

    assert stores.documents.current([KEY]) == {}


def test_a_failure_that_somebody_caught_on_the_way_still_undoes_the_whole(stores: Stores):
    stores.journal.add("a", "e1", [], NOW)

    def swallow() -> None:
        with stores.database.transaction():
            stores.documents.put(STATE)
            with suppress(AlreadyJournaled):
                stores.journal.add("a", "e1", [], NOW)

    with pytest.raises(AlreadyJournaled):
        swallow()

    assert stores.documents.current([KEY]) == {}


def test_the_database_works_on_after_a_failure(stores: Stores):
    with pytest.raises(Broken):
        fail_after(stores, lambda: write_everywhere(stores))
    write_everywhere(stores)

    assert what_is_there(stores) == [1] * 8


def race(action: Callable[[int], object], runners: int = 2) -> list[object]:
    start = Barrier(runners)

    def run(number: int) -> object:
        start.wait()
        return action(number)

    with ThreadPoolExecutor(runners) as pool:
        return list(pool.map(run, range(runners)))


def test_of_two_workers_one_gets_each_run(stores: Stores):
    for number in range(12):
        stores.runs.add("a", f"r{number}", "train", {}, {}, NOW)

    def claim_all(worker: int) -> list[str]:
        claimed: list[str] = []
        for _ in range(30):
            claim = stores.runs.claim("a", f"w{worker}", now=NOW, lease_seconds=60)
            if claim is not None:
                claimed.append(claim.run_id)
                stores.runs.finish(claim.run_id, claim.attempt, state="done", result={}, now=NOW)
        return claimed

    claims = race(claim_all)

    together = sorted(run_id for claimed in claims for run_id in claimed)  # type: ignore[attr-defined]  # lists
    assert together == sorted(f"r{number}" for number in range(12))


def test_of_two_workers_one_gets_a_lease(stores: Stores):
    for number in range(10):

        def acquire(worker: int, name: str = f"tick {number}") -> bool:
            return stores.leases.acquire(name, f"w{worker}", now=NOW, seconds=60)

        assert sorted(map(bool, race(acquire))) == [False, True]


def test_of_two_workers_one_journals_an_event_and_the_others_effect_is_undone(stores: Stores):
    for number in range(10):

        def deliver(worker: int, identity: str = f"e{number}") -> bool:
            try:
                with stores.database.transaction():
                    stores.features.put_interaction(Interaction(answer_id=f"{identity} by {worker}", last_event_at=NOW))
                    stores.journal.add("a", identity, [record()], NOW)
            except AlreadyJournaled:
                return False
            return True

        assert sorted(map(bool, race(deliver))) == [False, True]
    assert len(stores.features.recent(None, 100)) == 10


async def test_stores_are_used_through_threads_of_an_event_loop(stores: Stores):
    def deliver(number: int) -> None:
        with stores.database.transaction():
            stores.features.put_interaction(Interaction(answer_id=str(number), last_event_at=NOW))
            stores.journal.add("a", str(number), [], NOW)

    await asyncio.gather(*(asyncio.to_thread(deliver, number) for number in range(40)))

    assert len(await asyncio.to_thread(stores.features.recent, None, 100)) == 40
