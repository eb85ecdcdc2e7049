"""Sends records and knows of each whether Kafka has it."""

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
"""Sending waits while more than this is under way, so that a large file does not fill the memory."""


class PendingSend:
    """A record under way."""

    def __init__(self, config: KafkaConnection, future: FutureRecordMetadata) -> None:
        self._config = config
        self._future = future

    @property
    def done(self) -> bool:
        """Whether Kafka has confirmed or refused it."""
        return bool(self._future.is_done)

    def wait(self, seconds: float = DELIVERY_SECONDS + 5.0) -> Position:
        """Where the record is, once Kafka has confirmed it; raises Unavailable or InvalidEvent when it will not."""
        with speaking(self._config):
            metadata = self._future.get(seconds)
        return Position(metadata.topic, metadata.partition, metadata.offset)


class RecordPublisher:
    """Confirmed sends: idempotent, by all in-sync replicas. One may serve several threads; close it."""

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
        """Starts sending; ``wait`` of what it returns, or ``flush``, tells whether Kafka has it."""
        try:
            future = self._producer.send(record.topic, value=record.value, key=record.key, headers=list(record.headers))
        except Exception as error:  # kafka-python raises its own errors, AssertionError and ValueError alike here
            raise translated(error, self._config) from error
        delivery = PendingSend(self._config, future)
        self._account(delivery, len(record.value or b"") + len(record.key or b""))
        return delivery

    def flush(self) -> None:
        """Waits until everything that was sent is confirmed; raises for the first record that is not."""
        with speaking(self._config):
            self._producer.flush()
        while self._under_way:
            delivery, size = self._under_way.popleft()
            self._bytes -= size
            delivery.wait()

    def publish(self, records: Iterable[Record]) -> list[Position]:
        """Sends all, waits for all, and says where they are."""
        return [delivery.wait() for delivery in [self.send(record) for record in records]]

    def close(self) -> None:
        """Gives up what is not confirmed yet; ``flush`` comes first."""
        from kafka.errors import KafkaTimeoutError

        try:
            self._producer.close(timeout=1.0)
        except KafkaTimeoutError:
            # kafka-python flushes first, and stays open with its thread when that fails: make it drop the records.
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
