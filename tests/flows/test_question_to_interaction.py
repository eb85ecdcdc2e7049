"""Documents, questions, answers and feedback through the real stack, by the command line as a user has it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.kafka import RecordPublisher, kafka_connection
from infra.settings import Settings, load
from schemas.documents import DocumentSubmitted
from schemas.envelope import Record, encode, new_context
from schemas.event import Event, JsonObject
from schemas.interactions import FeedbackGiven
from schemas.promotions import AdapterPromoted, AdapterRolledBack
from schemas.questions import AnswerProduced, QuestionAsked
from schemas.topics import TOPICS
from tests.fixtures.stack import ROOT, RunningHome
from tests.flows.waiting import until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

PAGES = [
    {
        "id": "opening",
        "title": "Opening hours",
        "text": "The museum opens at ten and closes at five, except on Mondays.",
    },
    {"id": "tickets", "title": "Tickets", "text": "A ticket costs nine crowns; children under twelve enter free."},
    {"id": "cloakroom", "title": "Cloakroom", "text": "Umbrellas and large bags must be left in the cloakroom."},
]


def _lines(rows: list[JsonObject]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def _row(home: RunningHome, answer_id: str) -> JsonObject | None:
    """Returns the answer's row of the feature table, or None while there is none."""
    rows = home.json("interactions", "show", answer_id, check=False)
    return rows[0] if rows else None


def _send(settings: Settings, *records: Record) -> None:
    with RecordPublisher(kafka_connection(settings)) as publisher:
        publisher.publish(records)


def _event(event: Event, at: datetime | None = None) -> Record:
    return encode(event, new_context("/tests", now=at or datetime.now(UTC)))


@pytest.fixture(scope="module")
def home(running_home: RunningHome) -> RunningHome:
    running_home.run("publish", "documents", "-", "--tenant", "museum", "--wait", stdin=_lines(PAGES))
    return running_home


@pytest.fixture(scope="module")
def settings(home: RunningHome) -> Settings:
    return load(home.path, environ={})


def _ask(home: RunningHome, text: str, *words: str) -> JsonObject:
    (answer,) = home.json("ask", text, "--tenant", "museum", "--max-tokens", "12", *words)
    return answer


def test_an_answer_has_sources_among_the_documents_of_its_tenant(home: RunningHome) -> None:
    answer = _ask(home, "When does the museum open?", "--task", "support")
    assert answer["sources"][0]["document_id"] == "opening"
    assert answer["text"]
    assert (answer["base_model"], answer.get("adapter_id")) == ("smollm2-135m-instruct", None)
    (stranger,) = home.json("search", "When does the museum open?", "--tenant", "stranger")
    assert stranger["hits"] == []


def test_an_interaction_has_its_question_answer_and_correction_in_one_row(home: RunningHome) -> None:
    answer = _ask(home, "What does a ticket cost?", "--user", "ada")
    home.run("feedback", answer["answer_id"], "--down", "--correction", "Nine crowns.", "--user", "ada")

    def corrected() -> JsonObject | None:
        (row,) = home.json("interactions", "show", answer["answer_id"])
        return row if row["outcome"] == "corrected" else None

    row = until(corrected, every=0.6)
    assert (row["question"], row["answer"]) == ("What does a ticket cost?", answer["text"])
    assert (row["rating"], row["correction"], row["revision"]) == ("down", "Nine crowns.", 2)


def test_searches_find_the_update_of_a_document_and_nothing_after_it_is_withdrawn(home: RunningHome) -> None:
    def found(query: str) -> list[str]:
        (result,) = home.json("search", query, "--tenant", "museum", "-k", "5")
        return [hit["text"] for hit in result["hits"]]

    page = {"id": "garden", "title": "Garden", "text": "The garden shuts at sunset."}
    home.run("publish", "documents", "-", "--tenant", "museum", "--wait", stdin=_lines([page]))
    assert any("sunset" in text for text in found("when does the garden close"))
    page["text"] = "The garden is open all night."
    home.run("publish", "documents", "-", "--tenant", "museum", "--wait", stdin=_lines([page]))
    texts = found("when does the garden close")
    assert any("all night" in text for text in texts)
    assert not any("sunset" in text for text in texts)
    gone = {"id": "garden", "deleted": True}
    home.run("publish", "documents", "-", "--tenant", "museum", "--wait", stdin=_lines([gone]))
    assert not any("garden" in text.lower() for text in found("when does the garden close"))


def test_a_promoted_adapter_answers_until_a_rollback(
    home: RunningHome, settings: Settings, random_adapters: dict[str, Path]
) -> None:
    folder = random_adapters["red"]
    adapter_id = folder.name
    shutil.copytree(folder, settings.adapters_folder / adapter_id)
    before = _ask(home, "Where is my parcel?", "--task", "routing", "--user", "bob")
    _send(settings, _event(AdapterPromoted(task="routing", sequence=1, champion=adapter_id)))

    def answer_by(wanted: str | None) -> Callable[[], JsonObject | None]:
        def asked() -> JsonObject | None:
            answer = _ask(home, "Where is my parcel?", "--task", "routing", "--user", "bob")
            return answer if answer.get("adapter_id") == wanted else None

        return asked

    after = until(answer_by(adapter_id), every=0.6)
    assert (after["release_sequence"], after["arm"]) == (1, "champion")
    assert after["text"] != before["text"]
    until(lambda: all(_serves(worker, adapter_id) for worker in _answerers(home)), every=0.6)
    _send(settings, _event(AdapterRolledBack(task="routing", sequence=2, champion=None, previous=adapter_id)))
    back = until(answer_by(None), every=0.6)
    assert back["text"] == before["text"]


def _answerers(home: RunningHome) -> list[JsonObject]:
    (status,) = home.json("status", check=False)
    return [worker for worker in status["workers"] if worker["agent"] == "answerer"]


def _serves(worker: JsonObject, adapter_id: str) -> bool:
    return any(adapter_id in serving["adapters"] for serving in worker["serves"])


MALFORMED = [topic.name for topic in TOPICS if topic.readers]


def test_a_malformed_message_on_any_topic_becomes_a_dead_letter_and_stops_nothing(
    home: RunningHome, settings: Settings
) -> None:
    broken = [Record(topic=name, key=b"k", value=b"\xffnonsense", headers=(("x", b"y"),)) for name in MALFORMED]
    letters_expected = len(home.json("dlq", "list")) + sum(len(topic.readers) for topic in TOPICS)
    followed = Record(topic="promotions.v1", key=b"routing", value=b"nonsense", headers=())
    _send(settings, *broken, followed)

    def all_letters() -> list[JsonObject] | None:
        found = home.json("dlq", "list")
        return found if len(found) >= letters_expected else None

    letters = until(all_letters, every=0.6)
    assert {letter["topic"] for letter in letters} >= set(MALFORMED)
    assert _ask(home, "When does the museum open?")["text"]
    log = (home.path / "run" / "logs" / "answerer-1.log").read_text()
    assert '"malformed"' in log


def test_bad_events_become_dead_letters_that_say_why(home: RunningHome, settings: Settings) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    future = _event(DocumentSubmitted(document_id="future", text="x", submitted_at=later))
    good = _event(DocumentSubmitted(document_id="empty", text="x", submitted_at=datetime.now(UTC)))
    empty = replace(good, value=(good.value or b"").replace(b'"text":"x"', b'"text":" "'))
    _send(settings, future, empty)

    def reasons() -> str | None:
        text = " ".join(letter["message"] for letter in home.json("dlq", "list"))
        return text if "future" in text and "text:" in text else None

    assert "5 minutes in the future" in until(reasons, every=0.6)


def test_a_question_to_an_unknown_task_fails_with_the_reason(home: RunningHome, settings: Settings) -> None:
    question = QuestionAsked(question_id="stray-1", task="cooking", text="How long do eggs boil?")
    _send(settings, _event(question))
    row = until(lambda: _row(home, "stray-1"), every=0.6)
    assert row["outcome"] == "failed"
    assert "support" in row["failure"]


def test_feedback_that_arrives_before_its_answer_is_joined_with_it(home: RunningHome, settings: Settings) -> None:
    _send(settings, _event(FeedbackGiven(answer_id="early-1", rating="up")))
    row = until(lambda: _row(home, "early-1"), every=0.6)
    assert (row["outcome"], row["revision"]) == ("pending", 1)
    answer = AnswerProduced(answer_id="early-1", task="support", question="q", text="a")
    _send(settings, _event(answer))

    def approved() -> JsonObject | None:
        (row,) = home.json("interactions", "show", "early-1")
        return row if row["outcome"] == "approved" else None

    row = until(approved, every=0.6)
    assert (row["question"], row["rating"], row["revision"]) == ("q", "up", 2)


def test_questions_are_neither_lost_nor_doubled_while_agents_are_killed(
    home: RunningHome, settings: Settings, tmp_path: Path
) -> None:
    asked = [{"id": f"kill-{number}", "text": f"What about rule {number}?"} for number in range(40)]
    file = tmp_path / "questions.jsonl"
    file.write_text(_lines(asked))
    words = ["ask", "--questions", str(file), "--tenant", "museum", "--max-tokens", "6", "--timeout", "200", "--json"]
    asking = subprocess.Popen(
        [sys.executable, "-m", "agents", "--home", str(home.path), *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for name in ("answerer-1", "recorder-1", "indexer-1", "answerer-2"):
        time.sleep(2)
        os.kill(home.pids()[name], signal.SIGKILL)
    page = {"id": "late", "title": "Late", "text": "Published while the indexer was down."}
    home.run("publish", "documents", "-", "--tenant", "museum", "--wait", "--timeout", "200", stdin=_lines([page]))
    output, _ = asking.communicate(timeout=250)
    answers = [json.loads(line) for line in output.splitlines()]
    assert [answer["answer_id"] for answer in answers] == [row["id"] for row in asked]
    assert not any("reason" in answer for answer in answers)

    def recorded() -> list[JsonObject] | None:
        rows = [home.json("interactions", "show", row["id"], check=False) for row in asked[::8]]
        return [row for (row,) in rows] if all(rows) else None

    assert [row["revision"] for row in until(recorded, 120, every=0.6)] == [1] * 5
    until(lambda: bool(home.json("status", check=False)[0]["ready"]), 120, every=0.6)
