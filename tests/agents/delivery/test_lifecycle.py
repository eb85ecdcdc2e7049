"""A worker's life as far as it needs no broker: what ends it ends it while it is being prepared, too."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agents.delivery.faust_app import StreamSettings
from agents.delivery.lifecycle import WorkerParts, run_worker
from agents.delivery.worker import Follower, Worker
from infra.memory.database import MemoryDatabase
from infra.memory.journal import MemoryInFlightMarks, MemoryJournal
from infra.memory.kafka import MemoryKafka
from infra.memory.runs import MemoryLeases, MemoryRunStore
from schemas.delivery import Message
from schemas.kafka import KafkaConnection


class Broken(MemoryKafka):
    """A reader with a defect that no waiting mends."""

    async def follow(self, topic: str) -> AsyncIterator[Message | None]:
        raise ValueError(f"{topic} cannot be read")
        yield


async def nobody(*_: Any) -> Any:
    raise AssertionError("nothing is to be handled")


async def test_a_follower_that_fails_while_its_worker_starts_ends_the_worker(tmp_path: Path, capfd: Any) -> None:
    database, kafka = MemoryDatabase(), Broken()
    nothing: Any = kafka  # a lookup is asked for offsets by a stream that has begun
    parts = WorkerParts(
        database=database, journal=MemoryJournal(database), marks=MemoryInFlightMarks(database),
        runs=MemoryRunStore(database), leases=MemoryLeases(database), publisher=kafka, reader=kafka, lookup=nothing,
        stream=StreamSettings(kafka=KafkaConnection(bootstrap_servers="127.0.0.1:9")), scratch=tmp_path,
    )  # fmt: skip
    worker = Worker(
        agent="answerer",
        topics=("questions.v1",),
        handlers={},
        followers=(Follower(topic="promotions.v1", apply=nobody),),
    )
    began = time.monotonic()
    assert await run_worker("answerer", lambda: worker, parts, "answerer-1") == 1
    assert time.monotonic() - began < 5
    assert "promotions.v1 cannot be read" in "".join(capfd.readouterr())
