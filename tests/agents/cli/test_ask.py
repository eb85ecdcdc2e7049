"""``everlearn ask`` and ``search``: in order, whole, and clear about what nobody answered."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from schemas.features import Interaction, Stamp
from tests.agents.cli.conftest import Everlearn, write_lines
from tests.agents.cli.peers import Peer, asked


def test_a_question_is_answered_with_its_sources_and_its_id(everlearn: Everlearn, answerer: Peer):
    result = everlearn("ask", "Why?", "--task", "support", "--user", "ann", "--session", "s1")
    assert (result.code, result.err) == (0, "")
    [question] = asked(answerer)
    assert result.out.splitlines() == [
        "echo Why?",
        "",
        "  [1] A title  0.500",
        f"  answer {question.question_id}  (support, no adapter, 0.0 s)",
    ]
    assert (question.user, question.session, question.task, question.retrieve_only) == ("ann", "s1", "support", False)
    assert question.deadline is not None


def test_the_first_task_is_asked_unless_another_is_named(everlearn: Everlearn, answerer: Peer):
    assert everlearn("ask", "Why?", "--json").lines[0]["task"] == "routing"


def test_answers_come_in_the_order_of_the_questions(everlearn: Everlearn, answerer: Peer, tmp_path: Path):
    ids = [f"{uuid.uuid4()}" for _ in range(30)]
    path = write_lines(tmp_path / "q.jsonl", *({"id": each, "text": f"q {each}", "user": f"u{each}"} for each in ids))
    result = everlearn("ask", "--questions", path, "--task", "support", "--json")
    assert (result.code, result.err) == (0, "")
    assert [line["answer_id"] for line in result.lines] == ids
    assert [line["text"] for line in result.lines] == [f"echo q {each}" for each in ids]
    assert {line["user"] for line in result.lines} == {f"u{each}" for each in ids}


def test_ids_that_only_the_file_knows_are_replaced_the_same_way_each_time(
    everlearn: Everlearn, answerer: Peer, tmp_path: Path
):
    own = str(uuid.uuid4())
    shoes = write_lines(
        tmp_path / "a.jsonl", {"id": "1", "text": "Shoes?"}, {"id": "2", "text": "Tea?"}, {"id": own, "text": "Own?"}
    )
    first = everlearn("ask", "--questions", shoes, "--json", "--user", "ann")
    assert first.err == (
        "questions of another file may have 2 ids such as '1' too, so their questions got others: give feedback with "
        "the answer_id of the answer\n"
    )
    assert [line["id"] for line in first.lines] == ["1", "2", own]
    ids = [line["answer_id"] for line in first.lines]
    assert len(set(ids)) == 3
    assert ids[2] == own
    again = everlearn("ask", "--questions", shoes, "--json", "--user", "ann")
    assert [line["answer_id"] for line in again.lines] == ids
    others = write_lines(tmp_path / "b.jsonl", {"id": "1", "text": "fail"}, {"text": "No id"})
    second = everlearn("ask", "--questions", others, "--json", "--user", "ann")
    assert second.lines[0]["answer_id"] not in ids
    assert second.lines[0]["id"] == "1"
    assert "id" not in second.lines[1]
    assert second.err.splitlines()[1] == "1: the engine is tired"


def test_an_id_under_which_another_question_was_asked_is_replaced(
    everlearn: Everlearn, answerer: Peer, tmp_path: Path, database_url: str
):
    at = datetime(2026, 1, 2, tzinfo=UTC)
    row = Interaction(
        answer_id="q-1",
        task="support",
        tenant="default",
        question="Shoes?",
        answered_at=at,
        answer_stamp=Stamp(time=at, event="e"),
    )
    database = Database(database_url)
    SqlFeatureTable(database).put_interaction(row)
    database.close()

    def asked_as(**line: str) -> tuple[str, str]:
        path = write_lines(tmp_path / "q.jsonl", {"id": "q-1", "text": "Shoes?", "task": "support"} | line)
        result = everlearn("ask", "--questions", path, "--json")
        assert result.code == 0
        return result.lines[0]["answer_id"], result.err

    assert asked_as() == ("q-1", "")
    for line in ({"text": "Tea?"}, {"user": "ann"}, {"tenant": "acme"}, {"task": "routing"}):
        answer_id, said = asked_as(**line)
        assert answer_id != "q-1"
        assert said.startswith("questions of another file may have the id 'q-1' too, so its question got another one")
        assert asked_as(**line)[0] == answer_id


def test_wrong_lines_are_named_and_the_others_answered(everlearn: Everlearn, answerer: Peer, tmp_path: Path):
    first = str(uuid.uuid4())
    path = write_lines(
        tmp_path / "q.jsonl",
        {"id": first, "text": "one"},
        "{",
        {"id": first, "text": "again"},
        {"text": "two", "task": "rooting"},
        {"text": " "},
        {"id": 5, "text": "three"},
        {"text": "four", "history": [{"role": "user", "text": "hi"}], "tenant": "acme"},
    )
    result = everlearn("ask", "--questions", path, "--json")
    assert result.code == 1
    assert [line["question"] for line in result.lines] == ["one", "four"]
    errors = result.err.splitlines()
    assert [line.partition(": ")[0] for line in errors] == [
        *[f"{path}:{number}" for number in (2, 3, 4, 5, 6)],
        "error",
    ]
    assert "stands in an earlier line" in errors[1]
    assert "there is no task 'rooting': choose from routing, support" in errors[2]
    assert errors[-1] == "error: 5 questions of 7 not answered, as shown above"


def test_a_failed_question_is_told_on_stderr_and_stays_in_the_json(
    everlearn: Everlearn, answerer: Peer, tmp_path: Path
):
    path = write_lines(tmp_path / "q.jsonl", {"text": "one"}, {"id": "f1", "text": "fail"}, {"text": "three"})
    result = everlearn("ask", "--questions", path, "--json")
    assert result.code == 1
    assert [line.get("reason") for line in result.lines] == [None, "the engine\nis tired", None]
    assert result.err.splitlines() == [
        "f1: the engine is tired",
        "error: 1 question of 3 not answered, as shown above",
    ]


def test_one_failed_question_is_one_line(everlearn: Everlearn, answerer: Peer):
    result = everlearn("ask", "fail")
    [question] = asked(answerer)
    assert (result.code, result.out) == (1, "")
    assert result.err == f"error: the question {question.question_id} was not answered: the engine is tired\n"
    assert everlearn("search", "fail").err == "error: the search failed: the engine is tired\n"


def test_an_unknown_task_is_misuse_that_names_the_tasks_there_are(everlearn: Everlearn, answerer: Peer):
    result = everlearn("ask", "Why?", "--task", "rooting")
    assert result.code == 2
    assert result.err == "error: there is no task 'rooting': choose from routing, support\n"
    assert asked(answerer) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give either a TEXT or --questions FILE"),
        (["a", "--questions", "f"], "give either a TEXT or --questions FILE"),
        (["  "], "text: is empty"),
        (["x" * 40_000], "text: is longer than 32,000 characters"),
        (["a", "--temperature", "9"], "temperature: "),
        (["a", "--tenant", "a/b"], "tenant: takes 1 to 64"),
        (["a", "--questions"], "requires an argument"),
        (["a", "--timeout", "nan"], "give seconds above 0"),
        (["a", "--timeout", "-1"], "give seconds above 0"),
    ],
)
def test_a_wrong_question_is_misuse_and_nothing_is_sent(everlearn: Everlearn, arguments: list[str], reason: str):
    result = everlearn("ask", *arguments)
    assert result.code == 2
    assert reason in result.err
    assert result.err.count("\n") == 1


def test_when_nobody_answers_it_says_where_to_look(everlearn: Everlearn):
    result = everlearn("ask", "Why?", "--timeout", "1")
    assert result.code == 1
    assert result.err.startswith("error: the question ")
    assert "not answered, and nothing came for 1 s: see with 'everlearn status'" in result.err


def test_answers_that_came_are_printed_though_one_is_missing(everlearn: Everlearn, answerer: Peer, tmp_path: Path):
    path = write_lines(tmp_path / "q.jsonl", {"text": "one"}, {"text": "silence"}, {"text": "three"})
    result = everlearn("ask", "--questions", path, "--json", "--timeout", "2")
    assert result.code == 1
    assert [line["question"] for line in result.lines] == ["one", "three"]
    assert result.err.startswith("error: 1 of 3 questions were not answered")


def test_a_file_without_questions_is_a_failure(everlearn: Everlearn, tmp_path: Path):
    result = everlearn("ask", "--questions", write_lines(tmp_path / "q.jsonl"))
    assert (result.code, "holds no question" in result.err) == (1, True)
    assert everlearn("ask", "--questions", tmp_path / "none").code == 2
    assert everlearn("search", "--queries", write_lines(tmp_path / "q.jsonl")).code == 1


def test_without_kafka_it_is_one_line(without_kafka: Everlearn):
    for command in ("ask", "search"):
        result = without_kafka(command, "Why?")
        assert result.code == 1
        assert result.err.startswith("error: Kafka at 127.0.0.1:9 does not answer")
        assert result.err.count("\n") == 1


def test_a_declined_answer_is_shown_as_one(everlearn: Everlearn, answerer: Peer):
    result = everlearn("ask", "unknown", "--task", "support")
    assert result.code == 0
    assert result.out.splitlines()[:4] == [
        "No idea.",
        "",
        "  no document answers this, the closest being",
        "  [1] A title  0.500",
    ]
    assert "  no document answers this" in everlearn("ask", "unknown nothing").out.splitlines()
    assert everlearn("ask", "unknown", "--json").lines[0]["declined"] is True


def test_standard_input_the_environment_and_another_folder_serve_too(
    kafka_bootstrap: str, home: Path, answerer: Peer, tmp_path: Path
):
    environ = os.environ | {
        "EVERLEARN_HOME": str(home),
        "EVERLEARN_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "PYTHONPATH": str(Path.cwd()),
    }
    command = [sys.executable, "-m", "agents", "ask", "--questions", "-", "--json", "--timeout", "30"]
    line = json.dumps({"text": "Grüße 😀"}, ensure_ascii=False).encode()
    result = subprocess.run(command, input=line, capture_output=True, env=environ, cwd=tmp_path, check=False)
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads(result.stdout)["text"] == "echo Grüße 😀"


def test_a_giant_question_is_refused_before_anything_is_sent(without_kafka: Everlearn, tmp_path: Path):
    long = without_kafka("ask", "word " * 6_300 + "word " * 200)
    assert (long.code, long.out) == (2, "")
    [line] = long.err.splitlines()
    assert line == "error: text: is longer than 32,000 characters"
    escaped = "\x01" * 31_999 + "x"  # six bytes each in JSON
    history = [{"role": "user", "text": escaped}] * 50
    path = write_lines(tmp_path / "q.jsonl", {"id": "big", "text": "why", "task": "support", "history": history})
    big = without_kafka("ask", "--questions", path)
    assert big.code == 1
    assert "q.jsonl:1: takes 9,6" in big.err
    assert "bytes as a record, and 9,437,184 is the most: shorten its history" in big.err
