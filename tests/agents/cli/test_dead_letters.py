"""``everlearn dlq``: a dead letter is listed until it was retried or dropped, and a retry is the original."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from agents.cli.dead_letters import DeadLetter, collect, dead_letter_topics, parse_id
from agents.delivery.dead_letters import Failure, dead_letter
from infra.kafka import RecordPublisher, StoredRecord, read_all
from schemas.delivery import Message
from schemas.envelope import Position, Record, encode, new_context
from schemas.errors import Misuse
from schemas.interactions import ExampleSubmitted
from schemas.kafka import KafkaConnection
from tests.agents.cli.conftest import Everlearn

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DLQ = "examples.v1.recorder.dlq"
RETRY = "examples.v1.recorder.retry"


def original(text: str = "a") -> Record:
    event = ExampleSubmitted(task="routing", input=text, output="b")
    return encode(event, new_context("/test", now=NOW, event_id=f"e-{text}"))


def dead(record: Record, message: str = "no such task", offset: int = 5) -> Record:
    read = Message(
        position=Position("examples.v1", 2, offset), key=record.key, value=record.value, headers=record.headers
    )
    failure = Failure(error="InvalidEvent", message=message, attempts=3, first_failure=NOW)
    return dead_letter(read, "recorder", failure)


def stored(record: Record, offset: int) -> StoredRecord:
    position = Position(record.topic, 0, offset)
    return StoredRecord(position=position, key=record.key, value=record.value, headers=record.headers, time=NOW)


def publish(config: KafkaConnection, *records: Record) -> list[str]:
    """The ids under which the dead letters lie now."""
    with RecordPublisher(config) as publisher:
        places = publisher.publish(records)
    return [f"examples.v1.recorder:{place.partition}:{place.offset}" for place in places]


def test_a_dead_letter_tells_where_it_comes_from_and_why():
    [found] = collect([stored(dead(original()), 17)])
    assert found.id == "examples.v1.recorder:0:17"
    assert found.summary() == {
        "id": "examples.v1.recorder:0:17",
        "topic": "examples.v1",
        "agent": "recorder",
        "origin": {"topic": "examples.v1", "partition": 2, "offset": 5},
        "type": "everlearn.example.submitted.v1",
        "key": "routing",
        "error": "InvalidEvent",
        "message": "no such task",
        "attempts": 3,
        "first_failure": NOW.isoformat(),
        "time": NOW.isoformat(),
    }


def test_a_retry_is_the_original_byte_for_byte():
    first = original()
    [found] = collect([stored(dead(first), 0)])
    assert found.original().topic == RETRY
    assert (found.original().key, found.original().value) == (first.key, first.value)
    assert found.original().headers == first.headers


def test_a_message_that_was_nothing_at_all_can_be_retried_and_marked():
    nothing = StoredRecord(position=Position(DLQ, 0, 1), key=None, value=None, headers=(), time=NOW)
    [found] = collect([nothing])
    assert found.original().value == b""
    assert found.marker("dropped").key == b"0:1"


def test_a_marker_handles_its_dead_letter_and_no_other():
    both = collect([stored(dead(original("a")), 0), stored(dead(original("b")), 1)])
    marker = both[0].marker("dropped")
    again = collect([stored(dead(original("a")), 0), stored(dead(original("b")), 1), stored(marker, 2)])
    assert [(found.position.offset, found.handled) for found in again] == [(0, "dropped"), (1, None)]


def test_a_dead_letter_without_any_of_the_headers_is_still_a_dead_letter():
    bare = StoredRecord(position=Position(DLQ, 0, 1), key=None, value=b"\xff", headers=(("x", b"\xfe"),), time=NOW)
    [found] = collect([bare])
    assert found.summary()["error"] is None
    assert found.full()["value"] == "\\xff"
    assert found.full()["headers"] == {"x": "\\xfe"}
    assert found.original() == Record(topic=RETRY, key=None, value=b"\xff", headers=(("x", b"\xfe"),))


@pytest.mark.parametrize(
    "text", ["x", "examples.v1.recorder", "examples.v1.recorder:0", "nope.v1.recorder:0:1", "examples.v1.recorder:a:b"]
)
def test_what_is_no_id_is_misuse(text: str):
    with pytest.raises(Misuse, match=r"is not the id of a dead letter, such as documents\.v1\.indexer:0:17"):
        parse_id(text)


def test_an_id_may_name_the_topic_in_full():
    assert parse_id("examples.v1.recorder:0:3") == parse_id(f"{DLQ}:0:3") == Position(DLQ, 0, 3)


def test_dead_letters_can_be_narrowed_to_a_topic_and_an_agent():
    assert dead_letter_topics("examples.v1") == [DLQ]
    assert {
        DeadLetter(position=Position(name, 0, 0), key=None, value=None, headers=(), time=NOW).agent
        for name in dead_letter_topics(agent="recorder")
    } == {"recorder"}


def test_a_dead_letter_is_listed_shown_retried_once_and_gone(everlearn: Everlearn, kafka_config: KafkaConnection):
    text = str(uuid.uuid4())
    record = original(text)
    [name] = publish(kafka_config, dead(record, message="bad\nluck"))
    listed = everlearn("dlq", "list", "--topic", "examples", "--agent", "recorder", "--json").lines
    assert [line["message"] for line in listed if line["id"] == name] == ["bad\nluck"]
    assert f"{name}  " in everlearn("dlq", "list").out
    shown = everlearn("dlq", "show", name, "--json")
    assert shown.lines[0]["value"]["input"] == text
    assert "dlq_error" not in shown.lines[0]["headers"]
    assert "InvalidEvent" in everlearn("dlq", "show", name).out

    retried = everlearn("dlq", "retry", name)
    assert (retried.code, retried.out, retried.err) == (0, "retried 1 dead letter\n", "")
    back = [each for each in read_all(kafka_config, [RETRY]) if each.value == record.value]
    assert [(each.key, each.headers) for each in back] == [(record.key, record.headers)]
    assert name not in everlearn("dlq", "list").out
    again = everlearn("dlq", "retry", name)
    assert again.code == 1
    assert again.err.startswith(f"error: the dead letter {name} was retried already")


def test_all_dead_letters_of_an_agent_are_dropped_and_none_is_sent_back(
    everlearn: Everlearn, kafka_config: KafkaConnection
):
    everlearn("dlq", "drop", "--all")
    names = publish(
        kafka_config,
        dead(original("x1")),
        dead(original("x2"), offset=6),
        Record(topic=DLQ, key=None, value=b"\xff", headers=()),
    )
    sent = len(list(read_all(kafka_config, [RETRY])))
    result = everlearn("dlq", "drop", "--all", "--agent", "recorder", "--json")
    assert result.lines == [{"id": name, "how": "dropped"} for name in names]
    assert len(list(read_all(kafka_config, [RETRY]))) == sent
    assert everlearn("dlq", "list").out == "There is no dead letter.\n"
    assert everlearn("dlq", "retry", "--all").out == "retried 0 dead letters\n"


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["retry"], 2, "give either the ID of a dead letter or --all"),
        (["drop", "examples.v1.recorder:0:1", "--all"], 2, "give either the ID"),
        (["show", "examples.v1.recorder:0:999999"], 1, "there is no dead letter examples.v1.recorder:0:999999"),
        (["list", "--topic", "exmples"], 2, "did you mean examples.v1?"),
        (["list", "--agent", "nobody"], 2, "no agent 'nobody' reads a topic"),
        (["list", "--agent", "indexer", "--topic", "answers"], 2, "the agent indexer does not read answers.v1"),
    ],
)
def test_misuse_is_one_line(everlearn: Everlearn, arguments: list[str], code: int, reason: str):
    result = everlearn("dlq", *arguments)
    assert result.code == code
    assert reason in result.err
    assert result.err.count("\n") == 1


def test_without_kafka_it_is_one_line(without_kafka: Everlearn):
    result = without_kafka("dlq", "list")
    assert result.code == 1
    assert result.err.startswith("error: Kafka at 127.0.0.1:9 does not answer")
