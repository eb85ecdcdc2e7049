"""``everlearn feedback`` and ``interactions`` on a real feature table."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.cli.feedback import FEEDBACK_FIELDS
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from schemas.features import Feedback, Interaction
from schemas.interactions import FeedbackGiven
from schemas.kafka import KafkaConnection
from schemas.questions import Turn
from tests.agents.cli.conftest import Everlearn, write_lines
from tests.agents.cli.peers import Peer

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def row(answer_id: str, minutes: int = 0, task: str | None = "support") -> Interaction:
    at = NOW + timedelta(minutes=minutes)
    return Interaction(
        answer_id=answer_id,
        revision=1,
        outcome="unrated",
        task=task,
        question="Why?",
        answer="Because.",
        sources=({"document_id": "d1", "score": 0.5},),
        declined=answer_id == "declined",
        answered_at=at,
        first_event_at=at,
        last_event_at=at,
    )


@pytest.fixture
def table(database_url: str):
    database = Database(database_url)
    yield SqlFeatureTable(database)
    database.close()


@pytest.fixture
def rater(kafka_config: KafkaConnection):
    with Peer(kafka_config, "feedback.v1", lambda _event, _context: ()) as peer:
        yield peer


def test_feedback_on_a_recorded_answer_is_sent(everlearn: Everlearn, table: SqlFeatureTable, rater: Peer):
    answer = str(uuid.uuid4())
    table.put_interaction(row(answer))
    result = everlearn("feedback", answer, "--down", "--correction", "No.", "--reason", "wrong", "--user", "ann")
    assert (result.code, result.err) == (0, "")
    assert result.out == f"sent feedback on {answer}: rating, correction, reason, user\n"
    assert rater.only_event() == FeedbackGiven(
        answer_id=answer, rating="down", correction="No.", reason="wrong", user="ann"
    )


def test_feedback_waits_for_a_recorder_that_is_a_little_late(everlearn: Everlearn, table: SqlFeatureTable, rater: Peer):
    answer = str(uuid.uuid4())
    late = threading.Timer(1.0, table.put_interaction, [row(answer)])
    late.start()
    result = everlearn("feedback", answer, "--up")
    late.join()
    assert result.code == 0
    assert rater.only_event() == FeedbackGiven(answer_id=answer, rating="up", source="reviewer")


def test_one_takes_back_ones_word(everlearn: Everlearn, table: SqlFeatureTable, rater: Peer):
    answer = str(uuid.uuid4())
    table.put_interaction(row(answer))
    result = everlearn("feedback", answer, "--retract", "--user", "ann")
    assert (result.code, result.out) == (0, f"sent feedback on {answer}: user, retract\n")
    assert rater.only_event() == FeedbackGiven(answer_id=answer, user="ann", retract=True)


def test_a_correction_that_is_no_label_is_refused_with_the_labels(
    everlearn: Everlearn, table: SqlFeatureTable, rater: Peer, home: Path, tmp_path: Path
):
    config = home / "everlearn.toml"
    config.write_text(config.read_text().replace('"Route."', '"Route."\nlabels = ["billing", "café"]'))
    table.put_interaction(row("a1", task="routing"))
    for arguments in ([], ["--force"]):
        result = everlearn("feedback", "a1", "--correction", "biling", *arguments)
        assert (result.code, result.out) == (2, "")
        assert result.err == "error: correction: 'biling' is no label of routing: give one of billing, café\n"
    path = write_lines(
        tmp_path / "f.jsonl",
        {"answer_id": "a1", "correction": "biling", "user": "ann"},
        {"answer_id": "a1", "correction": "CAFE\u0301", "source": "reviewer"},
        {"answer_id": "not yet", "correction": "biling"},
        {"answer_id": "a1", "retract": True, "user": "ann"},
        {"answer_id": "a1", "rater": "ann", "rating": "up"},
        {"answer_id": "a1", "rating": "up", "source": "boss"},
    )
    published = everlearn("publish", "feedback", path)
    assert published.out == "published 3 feedback lines\n"
    assert published.err.splitlines()[:3] == [
        f"{path}:1: correction: 'biling' is no label of routing: give one of billing, café",
        f"{path}:5: unknown field 'rater'; it takes {', '.join(FEEDBACK_FIELDS)}",
        f"{path}:6: source: Input should be 'user', 'reviewer' or 'application'",
    ]
    examples = write_lines(tmp_path / "e.jsonl", {"task": "routing", "input": "a", "output": "biling"})
    refused = everlearn("publish", "examples", examples)
    assert refused.err.startswith(f"{examples}:1: output: 'biling' is no label of routing: give one of billing, café")


def test_feedback_on_an_unknown_answer_is_one_line_and_nothing_is_sent(
    everlearn: Everlearn, table: SqlFeatureTable, rater: Peer
):
    # Earlier feedback alone makes a row, but no answer.
    table.put_interaction(Interaction(answer_id="guess", revision=1, first_event_at=NOW, last_event_at=NOW))
    result = everlearn("feedback", "guess", "--up")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: no answer 'guess' is recorded, so nothing was sent")
    assert rater.seen == []
    assert everlearn("feedback", "none", "--up", "--force").code == 0
    assert rater.only_event().answer_id == "none"  # type: ignore[attr-defined]  # a FeedbackGiven


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give a rating, a correction or a reason, or retract"),
        (["--up", "--retract"], "retract takes back everything: give no rating, correction or reason with it"),
        (["--up", "--down"], "give --up or --down, not both"),
        (["--correction", " "], "correction: is empty"),
        (["--reason", "x" * 3000], "reason: is longer than 2,000 characters"),
    ],
)
def test_wrong_feedback_is_misuse(everlearn: Everlearn, arguments: list[str], reason: str):
    result = everlearn("feedback", "a1", *arguments)
    assert result.code == 2
    assert reason in result.err


def test_interactions_are_listed_newest_first(everlearn: Everlearn, table: SqlFeatureTable):
    for number in range(3):
        table.put_interaction(row(f"a{number}", minutes=number, task="support" if number else "routing"))
    result = everlearn("interactions", "list", "--json")
    assert [line["answer_id"] for line in result.lines] == ["a2", "a1", "a0"]
    assert result.lines[0]["answered_at"] == (NOW + timedelta(minutes=2)).isoformat()
    assert not [name for name in result.lines[0] if name.endswith("_stamp")]
    assert [line["answer_id"] for line in everlearn("interactions", "list", "--task", "routing", "--json").lines] == [
        "a0"
    ]
    shown = everlearn("interactions", "list", "-n", "1")
    assert shown.out.splitlines()[1].startswith("a2  ")
    assert shown.err == "only the newest 1 row; more with -n\n"
    assert everlearn("interactions", "list", "-n", "3").err == ""


def test_a_search_is_listed_as_one(everlearn: Everlearn, table: SqlFeatureTable):
    table.put_interaction(replace(row("s1"), finish_reason="retrieve_only", answer=""))
    table.put_interaction(replace(row("a1", minutes=-1), finish_reason="stop"))
    _, search, answer = everlearn("interactions", "list").out.splitlines()
    assert search.split()[:5] == ["s1", "2026-01-02", "03:04:05", "support", "searched"]
    assert answer.split()[4] == "unrated"
    assert everlearn("interactions", "list", "--json").lines[0]["outcome"] == "unrated", "other people's scripts"


def test_one_interaction_is_shown_whole(everlearn: Everlearn, table: SqlFeatureTable):
    table.put_interaction(row("a1"))
    assert everlearn("interactions", "show", "a1", "--json").lines[0]["answer"] == "Because."
    text = everlearn("interactions", "show", "a1").out
    assert "sources         d1 (0.500)" in text
    turns = (Turn(role="user", text="May I return shoes?"), Turn(role="assistant", text="Yes."))
    table.put_interaction(replace(row("a1"), history=turns))
    shown = everlearn("interactions", "show", "a1", "--json").lines[0]
    assert shown["history"] == [turn.model_dump() for turn in turns]
    assert "history         user: May I return shoes?, assistant: Yes." in everlearn("interactions", "show", "a1").out
    table.put_interaction(row("declined"))
    assert "declined        yes" in everlearn("interactions", "show", "declined").out
    refused = replace(row("a1"), correction="x", outcome="disapproved")
    with table._database.transaction():
        table.put_interaction(refused)
        table.put_feedback(Feedback(answer_id="a1", source="user", rater="ann", rating="down", correction="x"))
        table.put_feedback(Feedback(answer_id="a1", source="reviewer", rater=""))
    text = everlearn("interactions", "show", "a1").out
    assert "disapproved, corrected to no label" in text
    assert "reviewer (not named): retracted" in text
    assert "user ann: rating down, correction x" in text
    shown = everlearn("interactions", "show", "a1", "--json").lines[0]
    assert [(each["rater"], each["rating"], each["retracted"]) for each in shown["feedback"]] == [
        ("", None, False),
        ("ann", "down", False),
    ]
    missing = everlearn("interactions", "show", "zz")
    assert missing.code == 1
    assert missing.err == "error: no interaction 'zz' is recorded: see 'everlearn interactions list'\n"


def test_an_empty_table_says_how_to_fill_it(everlearn: Everlearn, table: SqlFeatureTable):
    assert everlearn("interactions", "list").out == "No interaction is recorded: ask something with 'everlearn ask'.\n"


def test_without_a_database_it_is_one_line(everlearn: Everlearn):
    for arguments in (["interactions", "list"], ["feedback", "a1", "--up"]):
        result = everlearn(*arguments)
        assert result.code == 1
        assert "run 'everlearn up'" in result.err
        assert result.err.count("\n") == 1


def test_an_unreachable_database_is_one_line(everlearn: Everlearn, home: Path):
    with (home / "everlearn.toml").open("a") as file:
        file.write('[sql]\nurl = "postgresql+psycopg://nobody:secret@127.0.0.1:9/none"\n')
    result = everlearn("interactions", "list")
    assert result.code == 1
    assert result.err.startswith("error: ")
    assert "secret" not in result.err
    assert result.err.count("\n") == 1
