"""Builds the parts that every worker needs: SQL stores, Kafka clients, and time limits."""

from __future__ import annotations

from agents.delivery.faust_app import StreamSettings
from agents.delivery.lifecycle import WorkerParts
from agents.wiring.database import database_of
from infra.kafka import kafka_connection
from infra.kafka.aio import KafkaLookup, KafkaPublisher, KafkaTopicReader
from infra.kafka.topics import KafkaTopicLookup
from infra.settings import Settings
from infra.sql.journal import SqlInFlightMarks, SqlJournal
from infra.sql.kafka_topics import SqlKnownTopics
from infra.sql.runs import SqlLeases, SqlRunStore


def parts(settings: Settings) -> WorkerParts:
    """Connects nothing yet; the running worker connects, and waits where it must."""
    connection = kafka_connection(settings)
    database = database_of(settings)
    scratch = settings.home / "work"
    scratch.mkdir(parents=True, exist_ok=True)
    worker = settings.worker
    return WorkerParts(
        database=database,
        journal=SqlJournal(database),
        marks=SqlInFlightMarks(database),
        runs=SqlRunStore(database),
        leases=SqlLeases(database),
        publisher=KafkaPublisher(connection),
        reader=KafkaTopicReader(connection),
        lookup=KafkaLookup(connection),
        topic_lookup=KafkaTopicLookup(connection),
        known_topics=SqlKnownTopics(database),
        stream=StreamSettings(
            kafka=connection,
            session_timeout_seconds=worker.session_timeout_seconds,
            max_poll_interval_seconds=worker.max_poll_interval_seconds,
        ),
        scratch=scratch,
        heartbeat_seconds=worker.heartbeat_seconds,
        stalled_after_seconds=worker.stalled_after_seconds,
        shutdown_seconds=worker.shutdown_seconds,
    )
