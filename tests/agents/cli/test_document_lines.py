"""Lines become documents, examples and feedback, or are refused in the words of the file."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from agents.cli.documents import DocumentLines, RisingClock
from agents.cli.feedback import feedback_of
from agents.cli.jsonl import Faulty
from agents.cli.publish import example_of
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.event import MAX_DOCUMENT_CHARACTERS
from schemas.tasks import Task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def document(**fields):
    return DocumentLines(clock=lambda: NOW)(fields)


def test_a_line_with_text_is_a_submitted_document():
    made = document(
        id="d1", text="Hello", title="T", uri="https://x", tenant="acme", metadata={"n": 1, "ok": True}, format="html"
    )
    assert made == DocumentSubmitted(
        document_id="d1",
        text="Hello",
        title="T",
        uri="https://x",
        tenant="acme",
        metadata={"n": 1, "ok": True},
        format="html",
        submitted_at=NOW,
    )


def test_a_deleted_line_is_a_withdrawn_document():
    assert document(id="d1", deleted=True, tenant="acme") == DocumentWithdrawn(
        document_id="d1", tenant="acme", submitted_at=NOW
    )


def test_an_optional_field_that_is_null_counts_as_left_out():
    assert document(id="d1", text="x", title=None, tenant=None) == document(id="d1", text="x")


def test_the_commands_tenant_is_that_of_lines_which_name_none():
    lines = DocumentLines(clock=lambda: NOW, tenant="acme")
    assert lines({"id": "1", "text": "x"}).tenant == "acme"
    assert lines({"id": "1", "text": "x", "tenant": "other"}).tenant == "other"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": "x"}, "^id: is missing$"),
        ({"id": "", "text": "x"}, "^id: is empty$"),
        ({"id": 5, "text": "x"}, "^id: Input should be a valid string$"),
        ({"id": "1"}, "^text: is missing$"),
        ({"id": "1", "text": ""}, "^text: is empty$"),
        ({"id": "1", "text": " \n "}, "^text: is empty$"),
        ({"id": "1", "text": "x" * (MAX_DOCUMENT_CHARACTERS + 1)}, "^text: is longer than 2,000,000 characters$"),
        ({"id": "1", "text": "\ud800"}, "^text: holds half a character"),
        ({"id": "1", "text": "x", "tenant": "a/b"}, "^tenant: takes 1 to 64 letters"),
        ({"id": "1", "text": "x", "metadata": {"k": [1]}}, "^metadata.k: must be a text, a number, true or false$"),
        ({"id": "1", "text": "x", "txt": "x"}, "^unknown field 'txt'; it takes id, text"),
        ({"id": "1", "text": "x", "format": "pdf"}, "^format: Input should be 'text', 'markdown' or 'html'$"),
        ({"id": "1", "text": "x", "deleted": True}, "^a deleted document has no text"),
        ({"id": "1", "deleted": "yes"}, "^deleted: must be true or false$"),
    ],
)
def test_a_wrong_document_is_refused_in_the_words_of_the_file(fields, reason: str):
    with pytest.raises(Faulty, match=reason):
        document(**fields)


def test_of_two_lines_at_one_moment_the_later_is_newer():
    clock = RisingClock(lambda: NOW)
    assert [clock(), clock(), clock()] == [NOW, NOW + timedelta(microseconds=1), NOW + timedelta(microseconds=2)]


def test_a_lines_own_metadata_goes_before_the_commands():
    lines = DocumentLines(clock=lambda: NOW, metadata={"lang": "en", "year": 2024})
    made = lines({"id": "1", "text": "x", "metadata": {"lang": "fr"}})
    assert isinstance(made, DocumentSubmitted)
    assert made.metadata == {"lang": "fr", "year": 2024}
    assert isinstance(lines({"id": "1", "deleted": True}), DocumentWithdrawn)


def test_an_id_may_hold_quotes_and_new_lines():
    made = document(id='a "b"\nc', text="x")
    assert made.document_id == 'a "b"\nc'


TASKS = {"routing": Task(name="routing", instruction="Route.")}


def test_an_example_of_an_unknown_task_is_refused_with_the_tasks_there_are():
    with pytest.raises(Faulty, match="there is no task 'rooting': choose from routing"):
        example_of({"task": "rooting", "input": "a", "output": "b"}, TASKS, "f")


def test_an_example_keeps_the_origin_of_its_line_or_takes_the_files():
    line = {"task": "routing", "input": "a", "output": "b"}
    assert example_of(line, TASKS, "f.jsonl").origin == "f.jsonl"
    assert example_of({**line, "origin": "crm"}, TASKS, "f.jsonl").origin == "crm"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"answer_id": "a"}, "give a rating, a correction or a reason"),
        ({"answer_id": "a", "rating": "good"}, "rating: Input should be 'up' or 'down'"),
        ({"rating": "up"}, "answer_id: is missing"),
        ({"answer_id": "a", "correction": ""}, "correction: is empty"),
    ],
)
def test_wrong_feedback_is_refused(fields, reason: str):
    with pytest.raises(Faulty, match=reason):
        feedback_of(fields)
