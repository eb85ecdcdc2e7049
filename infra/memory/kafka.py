"""The in-memory twin of ``infra.kafka.aio``: a log of records to publish to and to follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from schemas.delivery import KafkaTopic, Message
from schemas.envelope import Position, Record
from schemas.errors import RecordRefused, Unavailable


class MemoryKafka:
    """Topics of one partition each. While ``away`` is true, every call raises Unavailable.

    ``most_bytes``: the largest value that a topic takes, by its name.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.cluster_id = "cluster-1"
        self.topic_ids: dict[str, str] = {}
        """The ids of topics that were made anew; the others have their name and the cluster's id."""
        self.away = False
        self.most_bytes: dict[str, int] = {}
        self._written = asyncio.Event()

    async def publish(self, records: Sequence[Record]) -> None:
        """Raises Unavailable while Kafka is away, RecordRefused for a record that is too large."""
        self._reach()
        for record in records:
            if len(record.value or b"") > self.most_bytes.get(record.topic, len(record.value or b"")):
                raise RecordRefused(f"Kafka refuses a record of {record.topic}: raise its max.message.bytes")
        self.records.extend(records)
        self._written.set()

    async def close(self) -> None:
        """Does nothing."""

    def topic(self, name: str) -> list[Record]:
        """Returns a topic's records, oldest first."""
        return [record for record in self.records if record.topic == name]

    def topics(self, names: Sequence[str]) -> list[KafkaTopic]:
        """Returns the topics of these names. Raises Unavailable while Kafka is away."""
        self._reach()
        return [
            KafkaTopic(
                name=name,
                topic_id=self.topic_ids.get(name, f"{name} of {self.cluster_id}"),
                cluster_id=self.cluster_id,
            )
            for name in names
        ]

    async def follow(self, topic: str) -> AsyncIterator[Message | None]:
        """Yields every message, then new ones for ever; None once, at the end that the topic had at the start."""
        self._reach()
        end, offset = len(self.topic(topic)), 0
        if end == 0:
            yield None
        while True:
            self._written.clear()
            for record in self.topic(topic)[offset:]:
                self._reach()
                position = Position(topic, 0, offset)
                yield Message(position=position, key=record.key, value=record.value, headers=record.headers)
                offset += 1
                if offset == end:
                    yield None
            await self._written.wait()

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("Kafka in memory is away: bring it back")
