"""The in-memory twin of ``infra.sql.kafka_topics``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from infra.memory.database import MemoryDatabase, in_utc
from schemas.delivery import InFlight, KafkaTopic, MetTopic
from schemas.topics import dead_letters_of


class MemoryKnownTopics:
    """Stores which topics a database belongs to."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def meet(self, topics: Sequence[KafkaTopic], at: datetime) -> dict[str, KafkaTopic]:
        """Stores the topics, and returns by name those that it knew under another id."""
        before: dict[str, KafkaTopic] = {}
        with self._database.transaction(), self._database.table("kafka_topics") as met:
            for topic in topics:
                known: MetTopic | None = met.get(topic.name)
                if known is None:
                    self._adopt(topic)
                elif known.topic == topic:
                    continue
                else:
                    before[topic.name] = known.topic
                earlier = known.topic.cluster_id if known is not None else topic.cluster_id
                moved = None if earlier == topic.cluster_id else earlier
                met[topic.name] = MetTopic(topic=topic, met_at=in_utc(at), earlier_cluster=moved)
        return {name: topic for name, topic in before.items() if topic.topic_id != met[name].topic.topic_id}

    def all(self) -> list[MetTopic]:
        """Returns every topic that was met, by name."""
        with self._database.table("kafka_topics") as met:
            return [met[name] for name in sorted(met)]

    def _adopt(self, topic: KafkaTopic) -> None:
        old, new = dead_letters_of(topic.name, None), dead_letters_of(topic.name, topic.topic_id)
        with self._database.table("journal") as journal:
            for agent, identity in list(journal):
                if identity.startswith(old):
                    journal[agent, new + identity.removeprefix(old)] = journal.pop((agent, identity))
        with self._database.table("inflight") as marks:
            for key, mark in list(marks.items()):
                found: InFlight = mark
                if found.topic == topic.name and found.topic_id is None:
                    marks[key] = replace(found, topic_id=topic.topic_id)
