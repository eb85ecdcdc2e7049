"""``everlearn topics`` and ``tail`` show what is there, decodable or not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agents.cli.topics import describe_record, sentence
from infra.kafka import RecordPublisher, StoredRecord, create_topics
from schemas.envelope import Position, Record, encode, new_context
from schemas.interactions import ExampleSubmitted
from schemas.kafka import KafkaConnection
from schemas.questions import QuestionAsked
from schemas.topics import TOPICS
from tests.agents.cli.conftest import Everlearn, command_line
from tests.fixtures.kafka import PrivateBroker

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def stored(topic: str, value: bytes | None, headers: Any, key: bytes | None = b"k") -> StoredRecord:
    return StoredRecord(position=Position(topic, 0, 7), key=key, value=value, headers=tuple(headers), time=NOW)


def question_record() -> Record:
    event = QuestionAsked(question_id="q1", task="support", text="a\x1b[31m?")
    return encode(event, new_context("/test", now=NOW, event_id="e1"))


def test_an_event_is_shown_with_its_data_and_where_it_comes_from():
    record = question_record()
    fields = describe_record(stored(record.topic, record.value, record.headers), now=NOW)
    assert fields["type"] == "everlearn.question.asked.v1"
    assert (fields["id"], fields["source"], fields["offset"]) == ("e1", "/test", 7)
    assert fields["data"]["text"] == "a\x1b[31m?"
    assert " QuestionAsked {" in sentence(fields, 200)
    assert "\x1b" not in sentence(fields, 200)


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b"hello", [], "the header ce_specversion is missing"),
        (None, question_record().headers, "the value is empty"),
        (b"\xff", question_record().headers, "value: Invalid JSON"),
        (b"{}", question_record().headers, "question_id: Field required"),
    ],
)
def test_what_is_no_event_is_shown_with_the_reason(value, headers, reason):
    fields = describe_record(stored("questions.v1", value, headers, key=None), now=NOW)
    assert fields["error"].startswith(reason)
    assert "data" not in fields
    json.dumps(fields)
    assert "not an event: " + reason in sentence(fields, 300)


def test_a_dead_letter_is_shown_with_its_circumstances():
    headers = [*question_record().headers, ("dlq_error", b"InvalidEvent"), ("dlq_message", b"no such task")]
    fields = describe_record(stored("questions.v1.answerer.dlq", question_record().value, headers), now=NOW)
    assert fields["dead_letter"] == {"error": "InvalidEvent", "message": "no such task"}
    assert "[InvalidEvent: no such task] QuestionAsked" in sentence(fields, 300)


def test_a_marker_is_shown_as_what_was_done():
    headers = [("dlq_handled", b"0:3"), ("dlq_how", b"dropped")]
    fields = describe_record(stored("questions.v1.answerer.dlq", None, headers), now=NOW)
    assert (fields["handled"], fields["how"]) == ("0:3", "dropped")
    assert "(dropped: 0:3)" in sentence(fields, 100)


def test_topics_are_listed_with_their_records(everlearn: Everlearn, kafka_config: KafkaConnection):
    before = {line["name"]: line["records"] for line in everlearn("topics", "--json").lines}
    event = ExampleSubmitted(task="routing", input="a", output="b")
    with RecordPublisher(kafka_config) as publisher:
        publisher.publish([encode(event, new_context("/test", now=datetime.now(UTC)))] * 3)
    result = everlearn("topics", "--json")
    assert [line["name"] for line in result.lines] == [topic.name for topic in TOPICS]
    examples = next(line for line in result.lines if line["name"] == "examples.v1")
    assert examples["records"] == before["examples.v1"] + 3
    assert (examples["key"], examples["readers"]) == ("task", ["recorder"])
    text = everlearn("topics").out
    assert "promotions.v1" in text
    assert "1 compacted" in text
    assert "(answerer)" in text


def test_topics_are_listed_without_kafka_too(without_kafka: Everlearn):
    result = without_kafka("topics", "--json")
    assert result.code == 0
    assert {line["records"] for line in result.lines} == {None}
    assert result.err.startswith("no counts: Kafka at 127.0.0.1:9 does not answer")


def test_tail_shows_what_lies_in_a_topic(everlearn: Everlearn, kafka_config: KafkaConnection):
    task = f"t{uuid.uuid4().hex[:8]}"
    now = datetime.now(UTC)
    event = ExampleSubmitted(task=task, input="a", output="b")
    good = encode(event, new_context("/test", now=now))
    bad = Record(topic="examples.v1", key=task.encode(), value=b"\xff\x00 oops", headers=())
    with RecordPublisher(kafka_config) as publisher:
        publisher.publish([good, bad])
    result = everlearn("tail", "examples", "--until-end", "--json")
    ours = [line for line in result.lines if line["key"] == task]
    assert result.code == 0
    assert ours[0]["data"] == {"task": task, "input": "a", "output": "b", "golden": False}
    assert ours[1]["value"] == "\\xff\x00 oops"
    assert "ce_specversion" in ours[1]["error"]
    shown = everlearn("tail", "examples.v1", "--until-end").out.splitlines()
    assert sum(task in line for line in shown) == 2


def test_tail_follows_and_stops_after_so_many(everlearn: Everlearn, kafka_config: KafkaConnection):
    stop = threading.Event()
    task = f"t{uuid.uuid4().hex[:8]}"

    def keep_publishing() -> None:
        with RecordPublisher(kafka_config) as publisher:
            for number in count():
                event = ExampleSubmitted(task=task, input=str(number), output="b")
                publisher.publish([encode(event, new_context("/test", now=datetime.now(UTC)))])
                if stop.wait(0.05):
                    return

    writer = threading.Thread(target=keep_publishing)
    writer.start()
    try:
        result = everlearn("tail", "examples.v1", "-n", "3", "--json")
    finally:
        stop.set()
        writer.join()
    assert result.code == 0
    numbers = [int(line["data"]["input"]) for line in result.lines]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("anwsers.v1", "did you mean answers.v1"),
        ("zzz", "there is documents.v1"),
        ("documents.v1.indexer.dql", "documents.v1.indexer.dlq"),
    ],
)
def test_an_unknown_topic_is_misuse_with_near_matches(without_kafka: Everlearn, name: str, hint: str):
    result = without_kafka("tail", name)
    assert result.code == 2
    assert hint in result.err


def test_ctrl_c_ends_a_tail_without_a_word(home: Path):
    command = [sys.executable, "-m", "agents", "--home", str(home), "tail", "fleet", "--json", "--from-beginning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.strip()) == (130, b"")


def test_tail_says_in_one_line_that_its_broker_died(
    kafka_broker: Callable[[], PrivateBroker], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broker = kafka_broker()
    create_topics(broker.config)
    (tmp_path / "everlearn.toml").write_text(f'[kafka]\nbootstrap_servers = "{broker.bootstrap}"\n')
    death = threading.Timer(2.0, broker.kill)
    death.start()
    result = command_line(tmp_path, capsys)("tail", "answers")
    death.join()
    assert result.code == 1
    assert result.err.startswith(f"error: Kafka at {broker.bootstrap} does not answer")
    assert result.err.count("\n") == 1


def test_tail_without_kafka_is_one_line(without_kafka: Everlearn):
    result = without_kafka("tail", "answers")
    assert result.code == 1
    assert result.err.startswith("error: Kafka at 127.0.0.1:9 does not answer")
