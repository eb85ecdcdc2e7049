"""Which event of a document decides, and when two submissions are different versions."""

from __future__ import annotations

from typing import Any

import pytest

from agents.indexer.versions import DocumentEvent, content_hash, decide, plan_update, version_of
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.envelope import EventContext, Position, Received
from tests.agents.indexer.room import at


def submission(
    event_id: str = "a", minute: float = 1, text: str = "text", **others: Any
) -> Received[DocumentSubmitted]:
    event = DocumentSubmitted.model_validate({"document_id": "d", "text": text, "submitted_at": at(minute), **others})
    return _received(event, event_id)


def withdrawal(event_id: str, minute: float) -> Received[DocumentWithdrawn]:
    return _received(DocumentWithdrawn(document_id="d", submitted_at=at(minute)), event_id)


def _received(event: Any, event_id: str) -> Received[Any]:
    return Received(
        event=event,
        context=EventContext(id=event_id, source="/tests", time=at(0)),
        position=Position("documents.v1", 0, 0),
    )


def after(*events: Received[DocumentEvent]) -> Any:
    planned = plan_update(None, events)
    assert planned is not None
    return planned.target


def test_an_unknown_document_is_indexed() -> None:
    assert decide(None, submission()) == "index"


def test_a_newer_text_is_indexed_and_an_older_one_is_stale() -> None:
    current = after(submission("b", 2))
    assert decide(current, submission("c", 3, "other")) == "index"
    assert decide(current, submission("a", 1, "other")) == "stale"


def test_the_very_event_that_is_current_is_stale() -> None:
    assert decide(after(submission()), submission()) == "stale"


def test_the_same_content_later_is_unchanged() -> None:
    current = after(submission("a", 1))
    assert decide(current, submission("b", 2)) == "unchanged"
    assert decide(current, submission("b", 2, format="text")) == "index"


def test_a_withdrawn_document_comes_back_by_a_newer_submission_alone() -> None:
    current = after(submission("a", 1), withdrawal("b", 2))
    assert decide(current, submission("c", 3)) == "index"
    assert decide(current, submission("z", 1.5)) == "stale"
    assert decide(current, withdrawal("c", 3)) == "withdraw"


def test_the_plan_of_stale_events_is_none() -> None:
    current = after(submission("b", 5))
    assert plan_update(current, [submission("a", 1, "x"), withdrawal("c", 2)]) is None


def test_a_plan_keeps_the_version_of_the_first_of_equal_texts_and_the_fence_of_the_last() -> None:
    first, last = submission("a", 1), submission("b", 2)
    planned = plan_update(None, [last, first])
    assert planned is not None
    assert planned.submission == first
    assert planned.target.version == version_of(first)
    assert planned.target.submitted_at == at(2)


def test_a_plan_that_ends_in_a_withdrawal_embeds_nothing() -> None:
    planned = plan_update(None, [submission("a", 1), withdrawal("b", 2)])
    assert planned is not None
    assert planned.submission is None
    assert planned.target.withdrawn


def test_a_withdrawn_state_does_not_depend_on_what_was_there() -> None:
    assert after(withdrawal("b", 2)) == after(submission("a", 1, title="T"), withdrawal("b", 2))


@pytest.mark.parametrize("change", [{"text": "t2"}, {"title": ""}, {"uri": "u"}, {"metadata": {"a": 1}}])
def test_the_hash_covers_everything_a_reader_sees(change: dict[str, Any]) -> None:
    assert content_hash(submission(**change).event) != content_hash(submission().event)


def test_the_hash_depends_neither_on_the_order_of_metadata_nor_on_the_event() -> None:
    left = submission("a", 1, metadata={"a": 1, "b": "é"})
    right = submission("b", 2, metadata={"b": "é", "a": 1})
    assert content_hash(left.event) == content_hash(right.event)


def test_a_title_cannot_pass_for_a_piece_of_text() -> None:
    assert content_hash(submission(text="a", title="b").event) != content_hash(submission(text="ab", title="").event)


def test_the_same_text_in_another_submission_is_another_version() -> None:
    assert version_of(submission("a")) == version_of(submission("a"))
    others = [
        version_of(submission("b")),
        version_of(submission("a", 2)),
        version_of(submission("a", tenant="t")),
        version_of(submission("a", document_id="e")),
    ]
    assert len({version_of(submission("a")), *others}) == 5


def test_the_same_text_in_another_format_is_other_content() -> None:
    formats = (None, "text", "markdown", "html")
    assert len({content_hash(submission(format=format).event) for format in formats}) == len(formats)
