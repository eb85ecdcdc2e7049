"""Where corrections of answers are found: in what the model was given, in newer documents, or nowhere."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from agents.monitor.corrections import MOST, CorrectionsFound, agrees, look_for
from infra.memory.database import MemoryDatabase
from infra.memory.documents import MemoryDocuments
from infra.memory.retriever import MemoryRetriever
from schemas.errors import Unavailable
from schemas.features import DocumentState, Interaction
from schemas.retrieval import Chunk
from tests.agents.monitor.rows import START, row

OLD, NEW = "A return is free for 14 days. We are in Turku.", "A return is free for 30 days. We are in Turku."
QUESTION, ANSWER = "For how long is a return free?", "A return is free for 14 days."


@pytest.mark.parametrize(
    ("correction", "text", "agree"),
    [
        ("30 days", NEW, True),
        ("It's 30 days now, not 14.", NEW, True),
        ("A return is free for 30 days.", NEW, True),
        ("30 days", OLD, False),
        ("30 days in 2026", NEW, False),
        ("Send it to Leeds", "Our new office in Leeds takes parcels.\nWrite to us.", True),
        ("Send it to Leeds", "Our office in York takes parcels.", False),
        (
            "The clerk at the counter decides",
            "Ask at the counter.\nOpen daily.\nCall a clerk.\nOpen late.\nShe decides.",
            False,
        ),
        ("No!", "No returns.", False),
        ("A return is free for 14 days.", OLD, False),
        ("", NEW, False),
    ],
    ids=str,
)
def test_a_correction_agrees_with_a_passage_that_says_what_it_adds(correction: str, text: str, agree: bool):
    assert agrees(correction, text, known=f"{QUESTION} {ANSWER}") == agree


def corrected(number: int, correction: str = "It is 30 days.", served: str = OLD) -> Interaction:
    answered = row(number, outcome="corrected", question=QUESTION, answer=ANSWER, correction=correction)
    return replace(answered, sources=({"document_id": "terms", "score": 0.8, "text": served},))


def found(rows: list[Interaction], text: str, *, submitted_after: timedelta, tenant: str = "default"):
    documents = MemoryDocuments(MemoryDatabase())
    state = DocumentState(
        tenant=tenant, document_id="terms", version="2", content_hash="h", chunk_count=1, embedding_model="m",
        title=None, uri=None, submitted_at=START + submitted_after, event_id="e",
    )  # fmt: skip
    documents.put(state)
    chunk = Chunk(chunk_id="c", tenant=tenant, document_id="terms", version="2", ordinal=0, text=text)
    return look_for(rows, MemoryRetriever([chunk]), documents)


def test_a_correction_that_a_newer_document_says_is_a_change_of_facts():
    late = timedelta(minutes=1)
    assert found([corrected(1), corrected(2)], NEW, submitted_after=late) == CorrectionsFound(
        checked=2, newer=2, documents=("terms",)
    )
    assert found([corrected(1)], OLD, submitted_after=late) == CorrectionsFound(checked=1)


def test_a_correction_that_an_older_document_says_was_missed_by_the_search():
    assert found([corrected(9)], NEW, submitted_after=timedelta()) == CorrectionsFound(
        checked=1, missed=1, documents=("terms",)
    )


def test_a_correction_that_the_model_was_given_is_the_models_fault():
    assert found([corrected(9, served=NEW)], NEW, submitted_after=timedelta(days=1)) == CorrectionsFound(
        checked=1, served=1
    )


def test_documents_of_other_tenants_are_not_looked_at():
    assert found([corrected(1)], NEW, submitted_after=timedelta(days=1), tenant="other") == CorrectionsFound(checked=1)


def test_only_the_latest_corrections_are_looked_for():
    rows = [corrected(number) for number in range(MOST + 10)]
    assert found([*rows, row(99)], NEW, submitted_after=timedelta(days=1)).checked == MOST


def test_without_corrections_nothing_is_searched():
    search = MemoryRetriever()
    search.down = True
    documents = MemoryDocuments(MemoryDatabase())
    assert look_for([row(1)], search, documents) == CorrectionsFound()
    with pytest.raises(Unavailable):
        look_for([corrected(1)], search, documents)
