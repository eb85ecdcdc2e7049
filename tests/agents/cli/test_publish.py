"""``everlearn publish`` sends what is usable, names what is not, and waits for the indexer when asked to."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import pytest

from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.interactions import ExampleSubmitted, FeedbackGiven
from schemas.kafka import KafkaConnection
from tests.agents.cli.conftest import Everlearn, write_lines
from tests.agents.cli.peers import Peer, indexes


@pytest.fixture
def indexer(kafka_config: KafkaConnection):
    with Peer(kafka_config, "documents.v1", indexes) as peer:
        yield peer


def test_documents_are_published_and_waited_for(everlearn: Everlearn, indexer: Peer, tmp_path: Path):
    path = write_lines(
        tmp_path / "docs.jsonl",
        {"id": "a", "text": "A"},
        {"id": "b", "text": "B", "tenant": "acme"},
        {"id": "c", "deleted": True},
    )
    result = everlearn("publish", "documents", path, "--wait", "--json")
    assert (result.code, result.err) == (0, "")
    [report] = result.lines
    report.pop("seconds")
    assert report == {
        "published": 2,
        "withdrawn": 1,
        "unchanged": 0,
        "refused": 0,
        "documents": 3,
        "indexed": 3,
        "missing": [],
    }
    assert {(event.document_id, event.tenant, type(event)) for event in indexer.seen} == {  # type: ignore[attr-defined]
        ("a", "default", DocumentSubmitted),
        ("b", "acme", DocumentSubmitted),
        ("c", "default", DocumentWithdrawn),
    }


def test_wrong_lines_are_named_and_the_others_published(everlearn: Everlearn, indexer: Peer, tmp_path: Path):
    path = write_lines(
        tmp_path / "docs.jsonl",
        {"id": "a", "text": "A"},
        '{"id": "b", "text": ',
        {"id": "c", "text": ""},
        {"id": "d", "text": "x" * 10_000_000},
        {"id": "e", "text": "E", "titel": "?"},
        {"id": "f", "text": "F"},
    )
    result = everlearn("publish", "documents", path, "--wait")
    assert result.code == 1
    lines = result.err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [*[f"{path}:{number}" for number in (2, 3, 4, 5)], "error"]
    assert "text: is longer than 2,000,000 characters" in lines[2]
    assert max(map(len, lines)) < 250
    assert lines[-1].startswith(f"error: 4 items of {path} refused")
    assert "published 2 documents, 2 of 2 are indexed" in result.out
    assert {event.document_id for event in indexer.seen} == {"a", "f"}  # type: ignore[attr-defined]


def test_a_record_larger_than_a_topic_takes_is_refused_before_it_is_sent(everlearn: Everlearn, tmp_path: Path):
    # Each such character is one of the text and six bytes of JSON.
    path = write_lines(tmp_path / "docs.jsonl", {"id": "a", "text": "x" + "\x01" * 1_900_000})
    result = everlearn("publish", "documents", path)
    assert result.code == 1
    assert f"{path}:1: takes 11,4" in result.err


def test_of_two_lines_with_one_id_the_last_is_newer(everlearn: Everlearn, indexer: Peer, tmp_path: Path):
    path = write_lines(tmp_path / "docs.jsonl", {"id": "a", "text": "old"}, {"id": "a", "text": "new"})
    result = everlearn("publish", "documents", path, "--wait", "--json")
    assert result.lines[0]["documents"] == 1
    old, new = indexer.seen
    assert isinstance(old, DocumentSubmitted)
    assert isinstance(new, DocumentSubmitted)
    assert (old.text, new.text) == ("old", "new")
    assert old.submitted_at < new.submitted_at


def test_waiting_ends_with_the_documents_that_are_missing(everlearn: Everlearn, indexer: Peer, tmp_path: Path):
    path = write_lines(tmp_path / "docs.jsonl", {"id": "a", "text": "A"}, {"id": "lost", "text": "L"})
    result = everlearn("publish", "documents", path, "--wait", "--timeout", "2", "--json")
    assert result.code == 1
    assert result.lines[0]["missing"] == ["lost"]
    assert result.err == (
        "error: 1 of 2 documents are not indexed, and nothing came for 2 s: lost; they are published all the same: "
        "see 'everlearn status' and 'everlearn dlq list'\n"
    )


def test_documents_that_no_search_can_find_are_named(everlearn: Everlearn, indexer: Peer, tmp_path: Path):
    path = write_lines(tmp_path / "docs.jsonl", {"id": "a", "text": "A"}, {"id": "empty\npage", "text": "<script>"})
    result = everlearn("publish", "documents", path, "--wait")
    assert result.code == 0
    assert result.err == "1 document holds nothing that can be searched: empty page\n"
    assert "2 of 2 are indexed" in result.out


def test_examples_and_feedback_reach_their_topics(everlearn: Everlearn, kafka_config: KafkaConnection, tmp_path: Path):
    answer = str(uuid.uuid4())
    examples = write_lines(
        tmp_path / "e.jsonl",
        {"task": "routing", "input": "hi", "output": "greeting"},
        {"task": "none", "input": "a", "output": "b"},
    )
    feedback = write_lines(
        tmp_path / "f.jsonl", {"answer_id": answer, "rating": "up", "user": "u"}, {"answer_id": answer}
    )
    nothing = lambda _event, _context: ()  # noqa: E731
    with Peer(kafka_config, "examples.v1", nothing) as taker, Peer(kafka_config, "feedback.v1", nothing) as rater:
        first = everlearn("publish", "examples", examples)
        second = everlearn("publish", "feedback", feedback, "--json")
        for _ in range(100):
            if taker.seen and rater.seen:
                break
            time.sleep(0.1)
    assert first.code == second.code == 1
    assert "e.jsonl:2: there is no task 'none': choose from routing, support" in first.err
    assert first.out == "published 1 example\n"
    assert "f.jsonl:2: give a rating, a correction or a reason" in second.err
    assert second.lines == [{"published": 1, "refused": 1}]
    assert taker.seen == [ExampleSubmitted(task="routing", input="hi", output="greeting", origin="e.jsonl")]
    assert rater.seen == [FeedbackGiven(answer_id=answer, rating="up", user="u")]


def test_a_golden_set_is_published_as_such_and_a_small_one_is_told_in_one_line(
    everlearn: Everlearn, kafka_config: KafkaConnection, tmp_path: Path
):
    path = write_lines(tmp_path / "g.jsonl", {"task": "routing", "input": "hi", "output": "greeting"})
    with Peer(kafka_config, "examples.v1", lambda _event, _context: ()) as taker:
        result = everlearn("publish", "examples", path, "--golden")
        for _ in range(100):
            if any(getattr(each, "golden", False) for each in taker.seen):
                break
            time.sleep(0.1)
    assert result.code == 0
    assert result.err == (
        "the golden set of routing is used once it has 20 examples, and 1 example came from here: publish more\n"
    )
    wanted = ExampleSubmitted(task="routing", input="hi", output="greeting", origin="g.jsonl", golden=True)
    assert wanted in taker.seen


@pytest.mark.parametrize("what", ["documents", "examples", "feedback"])
def test_a_missing_file_is_misuse_and_an_empty_one_a_failure(everlearn: Everlearn, tmp_path: Path, what: str):
    missing = everlearn("publish", what, tmp_path / "none.jsonl")
    assert missing.code == 2
    assert missing.err.startswith(f"error: there is no file {tmp_path}/none.jsonl")
    empty = everlearn("publish", what, write_lines(tmp_path / "empty.jsonl"))
    assert empty.code == 1
    assert empty.err.startswith(f"error: {tmp_path}/empty.jsonl holds nothing to publish")


@pytest.mark.parametrize("what", ["documents", "examples", "feedback"])
def test_without_kafka_it_is_one_line(without_kafka: Everlearn, tmp_path: Path, what: str):
    path = write_lines(tmp_path / "in.jsonl", json.dumps({"id": "a", "text": "A"}))
    result = without_kafka("publish", what, path)
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("error: Kafka at 127.0.0.1:9 does not answer")
    assert result.err.count("\n") == 1
