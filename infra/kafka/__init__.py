"""Creates topics, publishes with confirmation and reads without a consumer group. Faust reads an agent's stream."""

from infra.kafka.client import MAX_BATCH_BYTES, answers, kafka_connection
from infra.kafka.publisher import PendingSend, RecordPublisher
from infra.kafka.reader import RecordReader, StoredRecord, read_all
from infra.kafka.topics import create_topics, record_counts

__all__ = [
    "MAX_BATCH_BYTES",
    "PendingSend",
    "RecordPublisher",
    "RecordReader",
    "StoredRecord",
    "answers",
    "create_topics",
    "kafka_connection",
    "read_all",
    "record_counts",
]
