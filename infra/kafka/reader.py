"""Reads records without a consumer group: whole topics, or everything that is written from now on."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING

from infra.kafka.client import CONNECT_SECONDS, MAX_BATCH_BYTES, REQUEST_SECONDS, connect, speaking
from schemas.envelope import Headers, Position
from schemas.errors import ConfigurationError
from schemas.kafka import KafkaConnection

if TYPE_CHECKING:
    from kafka import TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class StoredRecord:
    """A record as Kafka stores it, not validated."""

    position: Position
    key: bytes | None
    value: bytes | None
    headers: Headers
    time: datetime


class RecordReader:
    """Reads topics from their beginning, or from their end at the time of the constructor. Close it after use.

    No record that is written after the constructor has returned is missed.
    """

    def __init__(
        self,
        config: KafkaConnection,
        topics: Sequence[str],
        *,
        from_end: bool = False,
        connect_seconds: float = CONNECT_SECONDS,
    ) -> None:
        from kafka import KafkaConsumer

        self._config = config
        self._consumer = connect(
            KafkaConsumer,
            config,
            connect_seconds,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            max_partition_fetch_bytes=MAX_BATCH_BYTES,
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
        )
        self._last_answer = time.monotonic()
        try:
            with speaking(config):
                self._assign(topics, from_end)
        except BaseException:
            self.close()
            raise

    def poll(self, timeout_seconds: float) -> list[StoredRecord]:
        """Returns new records as soon as there are any, or an empty list after the timeout.

        Raises Unavailable when Kafka does not answer.
        """
        with speaking(self._config):
            found = self._consumer.poll(timeout_ms=max(0, int(timeout_seconds * 1000)))
            if found:
                self._last_answer = time.monotonic()
            elif time.monotonic() - self._last_answer > REQUEST_SECONDS / 2:
                # kafka-python waits for a broker that is gone without an error, so send it a request now and then.
                self._ends()
                self._last_answer = time.monotonic()
        return [_stored(record) for records in found.values() for record in records]

    def until_end(self) -> Iterator[StoredRecord]:
        """Yields every record up to the current end of the topics. ``poll`` may follow."""
        with speaking(self._config):
            left = dict(self._ends())
        while left := self._unread(left):
            yield from self.poll(0.5)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=1000)

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _assign(self, topics: Sequence[str], from_end: bool) -> None:
        from kafka import TopicPartition

        present = self._consumer.topics()
        if missing := sorted(set(topics) - set(present)):
            raise ConfigurationError(
                f"Kafka at {self._config.bootstrap_servers} has no topic {', '.join(missing)}: "
                "'everlearn up' or 'everlearn run' creates the topics"
            )
        self._partitions = [
            TopicPartition(topic, number)
            for topic in topics
            for number in sorted(self._consumer.partitions_for_topic(topic))
        ]
        self._consumer.assign(self._partitions)
        timeout = int(REQUEST_SECONDS * 1000)
        starts = self._ends() if from_end else self._consumer.beginning_offsets(self._partitions, timeout_ms=timeout)
        for partition, offset in starts.items():
            self._consumer.seek(partition, offset)

    def _ends(self) -> dict[TopicPartition, int]:
        ends: dict[TopicPartition, int] = self._consumer.end_offsets(
            self._partitions, timeout_ms=int(REQUEST_SECONDS * 500)
        )
        return ends

    def _unread(self, ends: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        # Compare positions, not records: compaction leaves gaps, also before the end.
        with speaking(self._config):
            return {
                partition: end
                for partition, end in ends.items()
                if (self._consumer.position(partition, timeout_ms=int(REQUEST_SECONDS * 1000)) or 0) < end
            }


def read_all(config: KafkaConnection, topics: Iterable[str]) -> Iterator[StoredRecord]:
    """Yields every record of the topics up to their current end, in order within a partition."""
    with RecordReader(config, list(topics)) as reader:
        yield from reader.until_end()


def _stored(record: ConsumerRecord) -> StoredRecord:
    return StoredRecord(
        position=Position(record.topic, record.partition, record.offset),
        key=record.key,
        value=record.value,
        headers=tuple((name, value if value is not None else b"") for name, value in record.headers or ()),
        time=_EPOCH + timedelta(milliseconds=record.timestamp or 0),
    )
