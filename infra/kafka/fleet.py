"""Reads the workers' heartbeats from fleet.v1 and decides which workers are alive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType

from infra.kafka import RecordPublisher, RecordReader, StoredRecord
from schemas.envelope import MalformedRecord, Record, decode
from schemas.fleet import WorkerReported
from schemas.kafka import KafkaConnection

TOPIC = "fleet.v1"
MISSED_BEATS = 5


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """A worker's latest heartbeat."""

    worker: WorkerReported
    time: datetime


def silence_bound(heartbeat_seconds: float) -> timedelta:
    """Returns how long a worker may be silent before it counts as dead."""
    return timedelta(seconds=max(10.0, MISSED_BEATS * heartbeat_seconds))


def latest(
    known: dict[str, WorkerReport], records: Iterable[StoredRecord], *, now: datetime
) -> dict[str, WorkerReport]:
    """Returns the latest report of each worker after reading these records. Ignores what is not a heartbeat.

    A record without a value is the tombstone of a worker that is gone.
    """
    seen = dict(known)
    for record in records:
        if record.value is None and record.key is not None:
            seen.pop(record.key.decode(errors="replace"), None)
            continue
        try:
            event, context = decode(TOPIC, record.value, record.headers, now=now)
        except MalformedRecord:
            continue
        if isinstance(event, WorkerReported):
            before = seen.get(event.worker)
            if before is None or before.time <= context.time:
                seen[event.worker] = WorkerReport(worker=event, time=context.time)
    return seen


def alive(reports: dict[str, WorkerReport], *, now: datetime, silence: timedelta) -> dict[str, WorkerReport]:
    """Returns the workers that are neither stopping nor silent; fleet.v1 keeps the last report of dead ones too."""
    return {
        name: report
        for name, report in sorted(reports.items())
        if report.worker.state != "stopping" and now - report.time <= silence
    }


class Fleet:
    """Follows fleet.v1 from its beginning. Close it."""

    def __init__(self, config: KafkaConnection) -> None:
        self._reader = RecordReader(config, [TOPIC])
        self._reports: dict[str, WorkerReport] = {}
        self._reports = latest({}, self._reader.until_end(), now=datetime.now(UTC))

    def reports(self, wait_seconds: float = 0.0) -> dict[str, WorkerReport]:
        """Returns the last report of every worker, dead ones too, after waiting so long for new ones.

        Raises Unavailable when Kafka does not answer.
        """
        self._reports = latest(self._reports, self._reader.poll(wait_seconds), now=datetime.now(UTC))
        return self._reports

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class DeadWorkers:
    """The last reports of one agent's workers that report no more. Compaction would keep them for ever."""

    def __init__(self, config: KafkaConnection, agent: str, *, keep: timedelta) -> None:
        self._config, self._agent, self._keep = config, agent, keep

    def bury(self, now: datetime) -> int:
        """Publishes a tombstone for each worker that has been silent for longer; returns how many."""
        with Fleet(self._config) as fleet:
            reports = fleet.reports()
        dead = dead_workers(reports, self._agent, before=now - self._keep)
        if dead:
            with RecordPublisher(self._config) as publisher:
                publisher.publish(Record(topic=TOPIC, key=name.encode(), value=None, headers=()) for name in dead)
        return len(dead)


def dead_workers(reports: dict[str, WorkerReport], agent: str, *, before: datetime) -> list[str]:
    """Returns the names of an agent's workers that have not reported since then."""
    return sorted(name for name, each in reports.items() if each.worker.agent == agent and each.time < before)
