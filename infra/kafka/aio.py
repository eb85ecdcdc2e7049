"""Publishes and reads Kafka inside a worker's event loop, by aiokafka: confirmed sends, and reads without a group."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.errors import KafkaError

from infra.kafka.client import MAX_BATCH_BYTES, aio_options
from schemas.delivery import Message
from schemas.envelope import Position, Record
from schemas.errors import RecordRefused, Unavailable
from schemas.kafka import KafkaConnection
from schemas.topics import MAX_RECORD_BYTES

_SEND_TIMEOUT_MS = 20_000
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
"""What Kafka will answer to the same record each time. It has a code for invalid records too, but aiokafka does not."""
_FOLLOWING_MS = 2_000
"""How long a follower's fetch waits. It returns new records at once, but those of a second partition may wait."""


class _Stoppable(Protocol):
    async def stop(self) -> None: ...


class KafkaPublisher:
    """Sends records idempotently, with acks=all, and waits for each confirmation."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def publish(self, records: Sequence[Record]) -> None:
        """Sends the records and waits until Kafka has confirmed each.

        Raises Unavailable after 20 s, and RecordRefused if Kafka will never take one of them. Kafka may then have taken
        others.
        """
        producer = await self._started()
        results = await self._send(producer, records)
        failures = [(record, each) for record, each in zip(records, results, strict=False) if each is not None]
        if not failures:
            return
        # An idempotent producer that lost a batch refuses every later batch, so the next call makes a new producer.
        await self._discard(producer)
        for record, error in failures:
            if isinstance(error, _TOO_LARGE):
                size = len(record.value or b"")
                raise RecordRefused(
                    f"Kafka refuses a record of {size:,} bytes for {record.topic}: set max.message.bytes of this topic "
                    f"to {MAX_BATCH_BYTES} or more, then run 'everlearn dlq retry'"
                ) from error
        _, first = failures[0]
        if not isinstance(first, (KafkaError, OSError)):
            raise first
        raise _unreachable(self._connection, first) from first

    async def _send(self, producer: AIOKafkaProducer, records: Sequence[Record]) -> list[BaseException | None]:
        """Returns for each record why it was not confirmed, or None."""
        sent = []
        for record in records:
            try:
                sent.append(
                    await producer.send(record.topic, value=record.value, key=record.key, headers=list(record.headers))
                )
            except (KafkaError, OSError) as error:
                refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                refused.set_exception(error)
                sent.append(refused)
                if not isinstance(error, _TOO_LARGE):
                    break  # the next would wait as long
        results = await asyncio.gather(*sent, return_exceptions=True)
        return [each if isinstance(each, BaseException) else None for each in results]

    async def close(self) -> None:
        if self._producer is not None:
            await self._discard(self._producer)

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **aio_options(self._connection),
                    acks="all",
                    enable_idempotence=True,
                    max_request_size=MAX_RECORD_BYTES,
                    request_timeout_ms=_SEND_TIMEOUT_MS,
                )
                try:
                    await producer.start()
                except (KafkaError, OSError) as error:
                    await _stop(producer)
                    raise _unreachable(self._connection, error) from error
                self._producer = producer
            return self._producer

    async def _discard(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
        await _stop(producer)


class KafkaTopicReader:
    """Reads topics from their beginning, without a group."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection

    async def follow(self, topic: str) -> AsyncIterator[Message | None]:
        """Yields every message from the beginning, then new ones for ever.

        Yields None once, when it has reached the end that the topic had at the start.
        """
        consumer = _consumer(self._connection, fetch_max_wait_ms=_FOLLOWING_MS)
        try:
            await consumer.start()
            partitions = [TopicPartition(topic, number) for number in await self._partitions(consumer, topic)]
            ends = await consumer.end_offsets(partitions)  # before the first fetch, because other requests wait for it
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            caught_up = False
            while True:
                if not caught_up and await _all_reached(consumer, ends):
                    caught_up = True
                    yield None
                timeout_ms = _FOLLOWING_MS if caught_up else 200
                for records in (await consumer.getmany(timeout_ms=timeout_ms)).values():
                    for record in records:
                        yield Message(
                            position=Position(record.topic, record.partition, record.offset),
                            key=record.key,
                            value=record.value,
                            headers=tuple(record.headers),
                        )
        except (KafkaError, OSError) as error:
            raise _unreachable(self._connection, error) from error
        finally:
            await _stop(consumer)

    async def _partitions(self, consumer: AIOKafkaConsumer, topic: str) -> list[int]:
        # aiokafka fetches no metadata for a consumer without a subscription, and has no public method for it.
        await consumer._client.force_metadata_update()
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise Unavailable(f"there is no topic {topic}: 'everlearn up' creates the topics")
        return sorted(numbers)


class KafkaLookup:
    """Looks up which messages exist. Connects at the first request and keeps the connection."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()
        self._consumer: AIOKafkaConsumer | None = None

    async def bounds(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        """Returns for each (topic, partition) the offset of its first message and its end offset.

        Both are the end offset where there is no message. Raises Unavailable.
        """
        places = [TopicPartition(*partition) for partition in partitions]
        async with self._connected() as consumer:
            starts, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        return {(place.topic, place.partition): (int(starts[place]), int(ends[place])) for place in places}

    async def first(self, topic: str, partition: int, offset: int) -> int:
        """Returns the offset of the first message at or after ``offset``, or the end offset if there is none.

        Raises Unavailable.
        """
        place = TopicPartition(topic, partition)
        async with self._connected() as consumer:
            end = (await consumer.end_offsets([place]))[place]
            consumer.assign([place])
            consumer.seek(place, offset)
            try:
                while await consumer.position(place) < end:
                    found = await consumer.getmany(place, timeout_ms=1000, max_records=1)
                    if found:
                        return int(found[place][0].offset)
                return int(end)
            finally:
                consumer.unsubscribe()  # else it goes on fetching, and other requests wait for that

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaConsumer]:
        async with self._lock:
            try:
                yield await self._started()
            except (KafkaError, OSError) as error:
                await self.close()
                raise _unreachable(self._connection, error) from error

    async def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = _consumer(self._connection)
            try:
                await consumer.start()
            except BaseException:
                await _stop(consumer)
                raise
            self._consumer = consumer
        return self._consumer

    async def close(self) -> None:
        """Ends the connection; a later request connects again."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _stop(consumer)


def _consumer(connection: KafkaConnection, *, fetch_max_wait_ms: int = 500) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **aio_options(connection),
        fetch_max_wait_ms=fetch_max_wait_ms,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )


async def _all_reached(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    # positions also move over deleted and compacted offsets, for which no record is returned
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])


async def _stop(client: _Stoppable) -> None:
    with contextlib.suppress(KafkaError, OSError, TimeoutError):
        await asyncio.wait_for(client.stop(), timeout=5)


def _unreachable(connection: KafkaConnection, error: Exception) -> Unavailable:
    match error:
        case errors.TopicAuthorizationFailedError() | errors.GroupAuthorizationFailedError():
            problem, advice = "does not allow this", "ask for the rights that it names"
        case errors.ClusterAuthorizationFailedError() | errors.TransactionalIdAuthorizationFailed():
            problem, advice = "does not allow this", "ask for the right of idempotent writes"
        case errors.SaslAuthenticationFailed() | errors.AuthenticationFailedError():
            problem = "refuses the credentials"
            advice = "check [kafka] sasl_username and EVERLEARN_KAFKA_SASL_PASSWORD"
        case errors.UnknownTopicOrPartitionError():
            problem, advice = "lacks a topic", "'everlearn up' creates the topics"
        case errors.NotEnoughReplicasError() | errors.NotEnoughReplicasAfterAppendError():
            problem, advice = "has too few replicas in sync", "start its other brokers"
        case errors.PolicyViolationError():
            problem, advice = "has a policy against this", "ask who runs it"
        case _:
            problem, advice = "does not answer", "start it, or correct [kafka] bootstrap_servers"
    return Unavailable(f"Kafka at {connection.bootstrap_servers} {problem} ({_describe(error)}): {advice}")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
