"""Topics, confirmed publishing, and reading without a group, on a real Kafka."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

import pytest
from faust import SASLCredentials

from agents.delivery.faust_app import StreamSettings, credentials
from infra.kafka import (
    RecordPublisher,
    RecordReader,
    StoredRecord,
    answers,
    create_topics,
    kafka_connection,
    read_all,
    record_counts,
)
from infra.kafka.client import aio_options, client_options
from infra.kafka.topics import KafkaTopicLookup
from infra.local.free_port import free_port
from infra.settings import load
from schemas.envelope import Position, Record
from schemas.errors import ConfigurationError, InvalidEvent, Unavailable
from schemas.kafka import KafkaConnection
from schemas.topics import MAX_RECORD_BYTES, TopicSettings, all_topics


def record(topic: str, value: bytes | None = b"v", key: bytes | None = b"k", headers=()) -> Record:
    return Record(topic=topic, key=key, value=value, headers=headers)


def listen(reader: RecordReader, seconds: int) -> None:
    for _ in range(seconds):
        reader.poll(1.0)


def nowhere() -> KafkaConnection:
    return KafkaConnection(bootstrap_servers=f"127.0.0.1:{free_port()}")


def test_creating_all_topics_again_creates_none(kafka_config):
    assert create_topics(kafka_config) == []


def test_a_topic_that_is_made_anew_has_another_id(kafka_config, make_topic):
    from kafka import KafkaAdminClient

    kept, name = make_topic("kept"), make_topic("anew")
    lookup = KafkaTopicLookup(kafka_config)
    before = lookup.topics([name, kept])
    assert [topic.name for topic in before] == [name, kept]
    assert lookup.topics([name, kept]) == before
    with KafkaAdminClient(bootstrap_servers=kafka_config.bootstrap_servers) as admin:
        admin.delete_topics([name])
    with pytest.raises(Unavailable, match=f"there is no topic {name}: 'everlearn up' creates the topics"):
        lookup.topics([kept, name])
    create_topics(kafka_config, [TopicSettings(name=name, partitions=1, compacted=False, retention_days=1)])
    anew, same = lookup.topics([name, kept])
    assert same == before[1]
    assert anew.cluster_id == before[0].cluster_id
    assert anew.topic_id != before[0].topic_id


def test_asking_a_kafka_that_is_away_for_topics_says_so():
    with pytest.raises(Unavailable, match="does not answer"):
        KafkaTopicLookup(nowhere()).topics(["feedback.v1"])


def test_created_topics_are_what_the_table_says(kafka_config):
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = KafkaAdminClient(bootstrap_servers=kafka_config.bootstrap_servers)
    described = {each["name"]: len(each["partitions"]) for each in admin.describe_topics()}
    assert {topic.name: topic.partitions for topic in all_topics()}.items() <= described.items()
    configs = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "promotions.v1")])
    assert "compact" in str(configs)
    admin.close()


def test_a_topic_with_another_number_of_partitions_is_named(kafka_config, make_topic):
    name = make_topic("counted", partitions=2)
    with pytest.raises(ConfigurationError, match=rf"{name}.* has 2 partitions instead of 3"):
        create_topics(kafka_config, [TopicSettings(name=name, partitions=3, compacted=False, retention_days=1)])


def test_two_processes_may_create_the_topics_at_once(kafka_broker):
    config = kafka_broker().config
    failures: list[BaseException] = []

    def create() -> None:
        try:
            create_topics(config)
        except BaseException as error:  # noqa: BLE001 - a thread must hand over whatever it met
            failures.append(error)

    threads = [threading.Thread(target=create) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert create_topics(config) == []


def test_what_was_published_is_read_back_byte_for_byte(kafka_config, make_topic):
    topic = make_topic()
    sent = [
        record(topic, b"\x00\xff\x80", b"\xfe", (("ce_id", "é".encode()), ("twice", b"1"), ("twice", b"2"))),
        record(topic, None, b"tombstone"),
        record(topic, b"", None),
    ]
    with RecordPublisher(kafka_config) as publisher:
        positions = publisher.publish(sent)
    found = list(read_all(kafka_config, [topic]))
    assert [(each.key, each.value, each.headers) for each in found] == [(r.key, r.value, r.headers) for r in sent]
    assert [each.position for each in found] == positions == [Position(topic, 0, number) for number in range(3)]


def test_a_record_of_the_largest_size_and_its_dead_letter_headers_fit(kafka_config, make_topic):
    topic = make_topic()
    value = b"x" * (MAX_RECORD_BYTES - 100)
    with RecordPublisher(kafka_config) as publisher:
        publisher.publish([record(topic, value, headers=(("dlq_message", b"y" * 4000),)) for _ in range(8)])
    assert [len(each.value or b"") for each in read_all(kafka_config, [topic])] == [len(value)] * 8


def test_a_record_that_is_too_large_is_refused_in_one_line(kafka_config, make_topic):
    with RecordPublisher(kafka_config) as publisher, pytest.raises(InvalidEvent, match="takes no record that large"):
        publisher.send(record(make_topic(), b"x" * (MAX_RECORD_BYTES + 2 * 1024 * 1024)))


def test_flush_tells_of_every_record(kafka_config, make_topic):
    topic = make_topic(partitions=3)
    with RecordPublisher(kafka_config, max_unconfirmed_bytes=20_000) as publisher:
        deliveries = [publisher.send(record(topic, b"v" * 100, b"%d" % number)) for number in range(2000)]
        publisher.flush()
        assert all(delivery.done for delivery in deliveries)
    assert record_counts(kafka_config, [topic]) == {topic: 2000}


def test_equal_keys_keep_their_order(kafka_config, make_topic):
    topic = make_topic(partitions=4)
    with RecordPublisher(kafka_config) as publisher:
        for number in range(300):
            publisher.send(record(topic, b"%d" % number, b"key-%d" % (number % 7)))
        publisher.flush()
    by_key: dict[bytes, list[int]] = {}
    for each in read_all(kafka_config, [topic]):
        by_key.setdefault(each.key or b"", []).append(int(each.value or b"0"))
    assert all(numbers == sorted(numbers) for numbers in by_key.values())
    assert sum(map(len, by_key.values())) == 300


def test_a_reader_from_the_end_sees_all_that_is_written_after_it_was_made(kafka_config, make_topic):
    topics = [make_topic(partitions=3), make_topic()]
    with RecordPublisher(kafka_config) as publisher:
        publisher.publish([record(topic, b"before", b"%d" % number) for topic in topics for number in range(10)])
        with RecordReader(kafka_config, topics, from_end=True) as reader:
            publisher.publish([record(topic, b"after", b"%d" % number) for topic in topics for number in range(10)])
            found: list[StoredRecord] = []
            while len(found) < 20:
                found += reader.poll(5.0)
            assert {each.value for each in found} == {b"after"}
            assert reader.poll(0.1) == []


def test_until_end_stops_at_the_end_and_poll_goes_on(kafka_config, make_topic):
    topic = make_topic(partitions=2)
    with RecordPublisher(kafka_config) as publisher, RecordReader(kafka_config, [topic]) as reader:
        assert list(reader.until_end()) == []
        publisher.publish([record(topic, b"%d" % number, b"%d" % number) for number in range(50)])
        assert len(list(reader.until_end())) == 50
        publisher.publish([record(topic, b"last")])
        assert [each.value for each in reader.poll(5.0)] == [b"last"]


def test_a_topic_that_is_not_there_is_named(kafka_config):
    with pytest.raises(ConfigurationError, match=r"has no topic nothing\.v1: 'everlearn up'"):
        RecordReader(kafka_config, ["nothing.v1"])
    assert record_counts(kafka_config, ["nothing.v1"]) == {}


@pytest.mark.parametrize("use", [RecordPublisher, create_topics, lambda config: RecordReader(config, ["x"])])
def test_where_nobody_listens_the_error_is_one_line_at_once(use, capfd, monkeypatch):
    logged: list[logging.LogRecord] = []
    listener = logging.Handler(logging.WARNING)
    monkeypatch.setattr(listener, "emit", logged.append)
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, listener])
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"^Kafka at 127.0.0.1:\d+ does not answer: Connection refused \(start it"):
        use(nowhere())
    assert time.monotonic() - began < 3
    assert "".join(capfd.readouterr()) == ""
    assert logged == []


def test_answers_says_no_where_nobody_listens():
    assert not answers(nowhere(), timeout_seconds=1.0)


def test_a_host_that_listens_and_says_nothing_is_given_up_in_time():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        config = KafkaConnection(bootstrap_servers=f"127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(Unavailable, match="does not answer"):
            RecordPublisher(config, connect_seconds=2.0)
        assert time.monotonic() - began < 6


@pytest.mark.parametrize("servers", ["nonsense", "host:port", ":9092"])
def test_an_address_that_is_none_is_named(servers):
    with pytest.raises(ConfigurationError, match="is not host:port"):
        RecordPublisher(KafkaConnection(bootstrap_servers=servers))


def test_no_thread_stays_behind_when_connecting_fails():
    before = threading.active_count()
    for _ in range(3):
        with pytest.raises(Unavailable):
            RecordPublisher(nowhere())
    assert threading.active_count() == before


def test_a_broker_that_dies_under_a_publisher_and_a_reader_gives_one_line(kafka_broker):
    broker = kafka_broker()
    create_topics(broker.config, [TopicSettings(name="t", partitions=1, compacted=False, retention_days=1)])
    with (
        RecordPublisher(broker.config, delivery_seconds=3.0) as publisher,
        RecordReader(broker.config, ["t"]) as reader,
    ):
        publisher.publish([record("t")])
        assert len(list(reader.until_end())) == 1
        broker.kill()
        delivery = publisher.send(record("t"))
        with pytest.raises(Unavailable, match="does not answer"):
            delivery.wait()
        with pytest.raises(Unavailable, match="does not answer"):
            listen(reader, seconds=30)


def test_a_broker_that_comes_back_finishes_what_was_under_way(kafka_broker):
    broker = kafka_broker()
    create_topics(broker.config, [TopicSettings(name="t", partitions=1, compacted=False, retention_days=1)])
    with RecordPublisher(broker.config) as publisher:
        publisher.publish([record("t", b"1")])
        broker.kill()
        delivery = publisher.send(record("t", b"2"))
        broker.start()
        assert delivery.wait() == Position("t", 0, 1)
    assert [each.value for each in read_all(broker.config, ["t"])] == [b"1", b"2"]


def test_one_description_serves_all_three_libraries_and_hides_the_password(tmp_path):
    environ = {
        "EVERLEARN_KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        "EVERLEARN_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "EVERLEARN_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "EVERLEARN_KAFKA_SASL_USERNAME": "me",
        "EVERLEARN_KAFKA_SASL_PASSWORD": "hush",
    }
    settings = load(tmp_path, environ=environ)
    config = kafka_connection(settings)
    assert "hush" not in repr(config) + repr(StreamSettings(kafka=config))
    for options in (client_options(config), aio_options(config)):
        assert (options["sasl_mechanism"], options["sasl_plain_password"]) == ("SCRAM-SHA-512", "hush")
    sasl = credentials(config)
    assert isinstance(sasl, SASLCredentials)
    assert sasl.password == "hush"
    assert sasl.ssl_context is not None
    assert aio_options(config)["ssl_context"].check_hostname
    assert aio_options(replace(config, security_protocol="SASL_PLAINTEXT"))["ssl_context"] is None


def test_refused_credentials_are_named_with_the_settings_that_hold_them(kafka_broker):
    broker = kafka_broker()
    broker.stop()
    port, plain = free_port(), f"PLAINTEXT://127.0.0.1:{broker.broker.port}"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    broker.extra_properties = f"""
listeners={plain},SASL_PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{broker.broker.controller_port}
advertised.listeners={plain},SASL_PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={login} username="a" password="b" user_me="right";
"""
    broker.start()
    right = KafkaConnection(
        bootstrap_servers=f"127.0.0.1:{port}",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="PLAIN",
        sasl_username="me",
        sasl_password="right",
    )
    assert answers(right, 10.0)
    with pytest.raises(
        ConfigurationError, match=r"refuses the credentials: check \[kafka\] sasl_username and EVERLEARN"
    ):
        RecordPublisher(replace(right, sasl_password="wrong"))
