"""Builds the parts that every worker needs: SQL stores, Kafka clients, and time limits."""

from __future__ import annotations

from datetime import timedelta

from agents.delivery.faust_app import StreamSettings
from agents.delivery.lifecycle import WorkerParts
from agents.delivery.run_folders import RunFolders
from agents.delivery.worker import Cleaner
from agents.wiring.database import database_of
from infra.kafka import kafka_connection
from infra.kafka.aio import KafkaLookup, KafkaPublisher, KafkaTopicReader
from infra.kafka.fleet import DeadWorkers
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
        cleaners=lambda agent: common_cleaners(agent, settings),
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


def common_cleaners(agent: str, settings: Settings) -> tuple[Cleaner, ...]:
    """Returns what deletes the old rows and files that every agent has."""
    database, policy = database_of(settings), settings.retention
    journal, runs = SqlJournal(database), SqlRunStore(database)
    folders = RunFolders(agent=agent, folder=settings.home / "work" / "runs", runs=runs, policy=policy)
    fleet = DeadWorkers(kafka_connection(settings), agent, keep=timedelta(days=policy.fleet_days))
    return (
        Cleaner(name="journal", clean=lambda now: journal.prune(agent, now - timedelta(days=policy.journal_days))),
        Cleaner(name="runs", clean=lambda now: runs.prune(agent, now - timedelta(days=policy.run_days))),
        Cleaner(name="run folders", clean=folders.clean, every_seconds=600.0, everywhere=True),
        Cleaner(name="fleet", clean=fleet.bury, every_seconds=3600.0),
    )
