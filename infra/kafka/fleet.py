"""What the workers report of themselves on fleet.v1, and which of them are alive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType

from infra.kafka import RecordReader, StoredRecord
from schemas.envelope import MalformedRecord, decode
from schemas.fleet import WorkerReported
from schemas.kafka import KafkaConnection

TOPIC = "fleet.v1"
MISSED_BEATS = 5


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """A worker's latest word."""

    worker: WorkerReported
    time: datetime


def silence_bound(heartbeat_seconds: float) -> timedelta:
    """A worker that has said nothing for this long is taken for dead."""
    return timedelta(seconds=max(10.0, MISSED_BEATS * heartbeat_seconds))


def latest(
    known: dict[str, WorkerReport], records: Iterable[StoredRecord], *, now: datetime
) -> dict[str, WorkerReport]:
    """What is known once those records are read, by worker; whatever is not a heartbeat is passed over."""
    seen = dict(known)
    for record in records:
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
    """Those who are neither stopping nor silent; fleet.v1 keeps the last word of the dead as well."""
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
        """Every worker's last word, the dead ones' too; waits for news so long. Raises Unavailable without Kafka."""
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
