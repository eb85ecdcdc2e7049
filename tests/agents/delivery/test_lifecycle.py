"""The life of a worker without a broker: a failure while it starts ends it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from agents.delivery.faust_app import StreamSettings
from agents.delivery.lifecycle import WorkerParts, run_worker
from agents.delivery.worker import Follower, Worker
from infra.memory.database import MemoryDatabase
from infra.memory.journal import MemoryInFlightMarks, MemoryJournal
from infra.memory.kafka import MemoryKafka
from infra.memory.runs import MemoryLeases, MemoryRunStore
from schemas.delivery import Message
from schemas.envelope import Received
from schemas.event import Event
from schemas.kafka import KafkaConnection


class Broken(MemoryKafka):
    """A topic reader that always fails, and does not become available by waiting."""

    async def follow(self, topic: str) -> AsyncIterator[Message | None]:
        raise ValueError(f"{topic} cannot be read")
        yield


class NoLookup:
    """A lookup that is never used, because the stream does not start."""

    async def bounds(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        raise AssertionError("the stream has not started")

    async def first(self, topic: str, partition: int, offset: int) -> int:
        raise AssertionError("the stream has not started")

    async def close(self) -> None: ...


async def apply(received: Received[Event]) -> None:
    raise AssertionError("no event can arrive")


async def test_a_follower_that_fails_while_its_worker_starts_ends_the_worker(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    database, kafka = MemoryDatabase(), Broken()
    parts = WorkerParts(
        database=database, journal=MemoryJournal(database), marks=MemoryInFlightMarks(database),
        runs=MemoryRunStore(database), leases=MemoryLeases(database), publisher=kafka, reader=kafka, lookup=NoLookup(),
        stream=StreamSettings(kafka=KafkaConnection(bootstrap_servers="127.0.0.1:9")), scratch=tmp_path,
    )  # fmt: skip
    worker = Worker(
        agent="answerer",
        topics=("questions.v1",),
        handlers={},
        followers=(Follower(topic="promotions.v1", apply=apply),),
    )
    began = time.monotonic()
    assert await run_worker("answerer", lambda: worker, parts, "answerer-1") == 1
    assert time.monotonic() - began < 5
    assert "promotions.v1 cannot be read" in "".join(capfd.readouterr())
