"""Sends records and reports for each whether Kafka has confirmed it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from infra.kafka.client import CONNECT_SECONDS, MAX_BATCH_BYTES, connect, speaking, translated
from schemas.envelope import Position, Record
from schemas.kafka import KafkaConnection

if TYPE_CHECKING:
    from kafka.producer.future import FutureRecordMetadata

DELIVERY_SECONDS = 20.0
"""A record that Kafka has not confirmed after this long counts as failed."""
MAX_UNCONFIRMED_BYTES = 64 * 1024 * 1024
"""``send`` waits while more than this is unconfirmed, so that a large file does not fill the memory."""


class PendingSend:
    """A record that was sent and may not be confirmed yet."""

    def __init__(self, config: KafkaConnection, future: FutureRecordMetadata, seconds: float) -> None:
        self._config = config
        self._future = future
        self._seconds = seconds

    @property
    def done(self) -> bool:
        """True once Kafka has confirmed or refused the record."""
        return bool(self._future.is_done)

    def wait(self) -> Position:
        """Returns the record's position once Kafka has confirmed it. Raises Unavailable or InvalidEvent otherwise."""
        with speaking(self._config):
            metadata = self._future.get(self._seconds)
        return Position(metadata.topic, metadata.partition, metadata.offset)


class RecordPublisher:
    """Sends records idempotently, with acks=all. Several threads may share one. Close it after use."""

    def __init__(
        self,
        config: KafkaConnection,
        *,
        delivery_seconds: float = DELIVERY_SECONDS,
        connect_seconds: float = CONNECT_SECONDS,
        max_unconfirmed_bytes: int = MAX_UNCONFIRMED_BYTES,
    ) -> None:
        from kafka import KafkaProducer

        self._config = config
        self._limit = max_unconfirmed_bytes
        self._longest_wait = delivery_seconds + min(5.0, delivery_seconds / 4)
        """kafka-python itself gives a record up after ``delivery_seconds``, but not always."""
        self._under_way: deque[tuple[PendingSend, int]] = deque()
        self._bytes = 0
        self._producer = connect(
            KafkaProducer,
            config,
            connect_seconds,
            delivery_timeout_ms=int(delivery_seconds * 1000),
            request_timeout_ms=int(delivery_seconds * 500),
            max_block_ms=int(delivery_seconds * 1000),
            max_request_size=MAX_BATCH_BYTES,
            batch_size=256 * 1024,
            allow_auto_create_topics=False,
        )

    def send(self, record: Record) -> PendingSend:
        """Starts sending a record. Call ``wait`` on the result, or ``flush``, to learn whether Kafka has it."""
        try:
            future = self._producer.send(record.topic, value=record.value, key=record.key, headers=list(record.headers))
        except Exception as error:  # kafka-python raises its own errors, AssertionError and ValueError alike here
            raise translated(error, self._config) from error
        delivery = PendingSend(self._config, future, self._longest_wait)
        self._account(delivery, len(record.value or b"") + len(record.key or b""))
        return delivery

    def flush(self) -> None:
        """Waits until Kafka has confirmed every record. Raises for the first one that it has not."""
        with speaking(self._config):
            self._producer.flush(self._longest_wait)
        while self._under_way:
            delivery, size = self._under_way.popleft()
            self._bytes -= size
            delivery.wait()

    def publish(self, records: Iterable[Record]) -> list[Position]:
        """Sends all records, waits for all of them, and returns their positions."""
        return [delivery.wait() for delivery in [self.send(record) for record in records]]

    def close(self) -> None:
        """Closes the connection. Drops unconfirmed records, so call ``flush`` first."""
        from kafka.errors import KafkaTimeoutError

        try:
            self._producer.close(timeout=1.0)
        except KafkaTimeoutError:
            # kafka-python flushes first. When that fails, its thread goes on, and no public method ends it.
            self._producer._sender.force_close()
            self._producer._sender.join(5.0)
            self._producer.close(timeout=0)

    def __enter__(self) -> RecordPublisher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _account(self, delivery: PendingSend, size: int) -> None:
        self._under_way.append((delivery, size))
        self._bytes += size
        while self._under_way and (self._bytes > self._limit or self._under_way[0][0].done):
            oldest, size = self._under_way.popleft()
            self._bytes -= size
            oldest.wait()
