"""The life of a worker without a broker: a failure while it starts ends it."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from agents.delivery.deliver import RetryPolicy
from agents.delivery.faust_app import StreamSettings
from agents.delivery.lifecycle import FAILED_CHORE_SECONDS, WorkerParts, keep_doing, keep_house, run_worker
from agents.delivery.outbox import Outbox
from agents.delivery.worker import Chore, Follower, Worker
from infra.memory.database import MemoryDatabase
from infra.memory.journal import MemoryInFlightMarks, MemoryJournal
from infra.memory.kafka import MemoryKafka
from infra.memory.kafka_topics import MemoryKnownTopics
from infra.memory.runs import MemoryLeases, MemoryRunStore
from schemas.delivery import JournalEntry, Message
from schemas.envelope import Received
from schemas.errors import ConfigurationError, Unavailable
from schemas.event import Event
from schemas.kafka import KafkaConnection
from tests.agents.delivery.rig import Rig


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
        topic_lookup=kafka, known_topics=MemoryKnownTopics(database),
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


async def test_a_chore_that_fails_in_any_way_is_logged_and_done_again() -> None:
    attempts, pauses = 0, []

    async def fail() -> None:
        nonlocal attempts
        attempts += 1
        raise TypeError("a defect") if attempts == 1 else Unavailable("Milvus is away")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            raise asyncio.CancelledError

    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await keep_doing(Chore(name="adapters", every_seconds=1.0, do=fail), sleep)
    assert pauses == [FAILED_CHORE_SECONDS, 1.0] * 2
    assert [(line["chore"], line["reason"]) for line in logs] == [
        ("adapters", "TypeError: a defect"),
        ("adapters", "Unavailable: Milvus is away"),
    ]


async def test_house_keeping_that_fails_in_any_way_is_logged_and_done_again() -> None:
    faults: list[Exception] = [TypeError("a defect"), Unavailable("SQL is away")]
    sleeps = 0

    class Faulty(MemoryJournal):
        def unpublished(self, agent: str, prefix: str) -> dict[str, JournalEntry]:
            if faults:
                raise faults.pop(0)
            return super().unpublished(agent, prefix)

    async def sleep(seconds: float) -> None:
        nonlocal sleeps
        sleeps += 1
        if sleeps == 3:
            raise asyncio.CancelledError

    rig = Rig()
    outbox = Outbox(
        "recorder", database=rig.database, journal=Faulty(rig.database), runs=rig.runs, publisher=rig.kafka,
        clock=rig.clock,
    )  # fmt: skip
    with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
        await keep_house(outbox, sleep)
    assert [(line["event"], line.get("error") or line["reason"]) for line in logs] == [
        ("house keeping failed", "TypeError: a defect"),
        ("house keeping waits", "SQL is away"),
    ]


async def test_a_machine_in_trouble_while_a_worker_is_built_is_waited_for(tmp_path: Path) -> None:
    database, kafka = MemoryDatabase(), MemoryKafka()
    parts = WorkerParts(
        database=database, journal=MemoryJournal(database), marks=MemoryInFlightMarks(database),
        runs=MemoryRunStore(database), leases=MemoryLeases(database), publisher=kafka, reader=kafka, lookup=NoLookup(),
        topic_lookup=kafka, known_topics=MemoryKnownTopics(database),
        stream=StreamSettings(kafka=KafkaConnection(bootstrap_servers="127.0.0.1:9")), scratch=tmp_path,
        retry=RetryPolicy(first_pause_seconds=0.01),
    )  # fmt: skip
    attempts = 0

    def build() -> Worker:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        raise ConfigurationError("a setting is wrong")

    with pytest.raises(ConfigurationError):
        await run_worker("answerer", build, parts, "answerer-1")
    assert attempts == 3
