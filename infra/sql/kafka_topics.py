"""Which topics of Kafka a database belongs to, in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from infra.sql import tables
from infra.sql.database import Database
from infra.sql.statements import upsert
from schemas.delivery import KafkaTopic, MetTopic
from schemas.topics import BY_NAME, dead_letters_of, origin_topic

_topics = tables.kafka_topics.c
_journal = tables.journal.c
_inflight = tables.inflight.c


class SqlKnownTopics:
    """Stores which topics a database belongs to."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def meet(self, topics: Sequence[KafkaTopic], at: datetime) -> dict[str, KafkaTopic]:
        """Stores the topics, and returns by name those that it knew under another id."""
        with self._database.connection() as connection:
            if self._known(connection, topics) == {topic.name: topic for topic in topics}:
                return {}
        with self._database.transaction(), self._database.connection(write=True) as connection:
            self._database.lock(connection, ["kafka topics"])
            known = self._known(connection, topics)
            for topic in topics:
                if topic.name not in known:
                    self._adopt(connection, topic)
                if known.get(topic.name) != topic:
                    connection.execute(
                        upsert(self._database.dialect, tables.kafka_topics), _row(topic, known.get(topic.name), at)
                    )
        return {
            topic.name: known[topic.name]
            for topic in topics
            if topic.name in known and known[topic.name].topic_id != topic.topic_id
        }

    def all(self) -> list[MetTopic]:
        """Returns every topic that was met, by name."""
        with self._database.connection() as connection:
            rows = connection.execute(select(tables.kafka_topics).order_by(_topics.topic)).all()
        return [
            MetTopic(
                topic=KafkaTopic(name=row.topic, topic_id=row.topic_id, cluster_id=row.cluster_id),
                met_at=row.met_at,
                earlier_cluster=row.earlier_cluster,
            )
            for row in rows
        ]

    def _known(self, connection: Connection, topics: Sequence[KafkaTopic]) -> dict[str, KafkaTopic]:
        names = [topic.name for topic in topics]
        rows = connection.execute(
            select(_topics.topic, _topics.topic_id, _topics.cluster_id).where(_topics.topic.in_(names))
        )
        return {row.topic: KafkaTopic(name=row.topic, topic_id=row.topic_id, cluster_id=row.cluster_id) for row in rows}

    def _adopt(self, connection: Connection, topic: KafkaTopic) -> None:
        """Gives what earlier versions stored by a topic's name to the topic that has this name now."""
        old, new = dead_letters_of(topic.name, None), dead_letters_of(topic.name, topic.topic_id)
        connection.execute(
            update(tables.journal)
            .where(_journal.agent.in_(BY_NAME[origin_topic(topic.name)].readers), self._begins(old))
            .values(identity=new + func.substr(_journal.identity, len(old) + 1))
        )
        connection.execute(
            update(tables.inflight)
            .where(_inflight.topic == topic.name, _inflight.topic_id.is_(None))
            .values(topic_id=topic.topic_id)
        )

    def _begins(self, prefix: str) -> ColumnElement[bool]:
        if self._database.dialect == "postgresql":
            return func.starts_with(_journal.identity, prefix)  # its order of texts is not that of their characters
        return and_(_journal.identity >= prefix, _journal.identity < prefix[:-1] + chr(ord(prefix[-1]) + 1))


def _row(topic: KafkaTopic, before: KafkaTopic | None, at: datetime) -> dict[str, object]:
    moved = before is not None and before.cluster_id != topic.cluster_id
    return {
        "topic": topic.name,
        "topic_id": topic.topic_id,
        "cluster_id": topic.cluster_id,
        "met_at": at,
        "earlier_cluster": before.cluster_id if before is not None and moved else None,
    }
