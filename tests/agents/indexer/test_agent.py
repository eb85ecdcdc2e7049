"""The indexer keeps SQL and the vector store consistent, whatever comes in whatever order, and whenever it dies."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from agents.delivery.worker import dispatcher
from schemas.documents import DocumentIndexed, DocumentUnindexed
from schemas.envelope import Received
from schemas.errors import InvalidEvent, ModelMissing, Unavailable
from schemas.event import Event
from schemas.interactions import FeedbackGiven
from tests.agents.indexer.room import LONG, START, STORY, Crash, Room, at, submitted, texts, withdrawn


async def test_a_document_becomes_chunks_a_row_and_a_fact() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, LONG, title="Numbers", uri="https://example.org"))
    state, told = room.state(), room.published_for("a")
    assert state is not None
    assert isinstance(told, DocumentIndexed)
    chunks = list(room.chunks.chunks.values())
    assert (told.chunk_count, told.content_hash, told.embedding_model) == (len(chunks), state.content_hash, "memory")
    assert len(chunks) > 3
    assert {(chunk.version, chunk.title, chunk.uri) for chunk in chunks} == {
        (state.version, "Numbers", "https://example.org")
    }
    assert sorted(chunk.ordinal for chunk in chunks) == list(range(len(chunks)))


async def test_a_page_is_stored_and_embedded_with_the_headings_above_each_chunk() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "# Guide\n\n## Setup\nRun it.", title="Guide"))
    assert [(chunk.heading, chunk.text) for chunk in room.chunks.chunks.values()] == [("Guide > Setup", "Run it.")]
    assert room.embedder.calls == [["Guide\nSetup\nRun it."]]


async def test_a_page_without_anything_to_read_is_indexed_without_chunks() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "<script>x</script>", format="html"))
    told = room.published_for("a")
    assert isinstance(told, DocumentIndexed)
    assert told.chunk_count == len(room.chunks.chunks) == 0


async def test_facts_carry_the_time_of_their_event_not_of_the_clock() -> None:
    room = Room()
    await room.deliver(submitted("a", 7, "text"))
    assert [output.time for _, output in room.published] == [at(7)]


async def test_a_delivery_twice_is_a_delivery_once() -> None:
    room = Room()
    await room.deliver(*STORY)
    once = room.picture()
    await room.deliver(*STORY)
    assert room.picture() == once
    assert len(room.published) == len(STORY)


async def test_a_journal_that_forgot_an_event_changes_nothing() -> None:
    room = Room()
    await room.deliver(*STORY)
    once = room.picture()
    with room.database.table("journal") as journal:
        journal.clear()
    for event in random.Random(1).sample(STORY, len(STORY)):
        await room.deliver(event)
    assert room.picture() == once


async def test_a_new_version_replaces_the_old_one_and_its_chunks() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, LONG))
    await room.deliver(submitted("b", 2, "short"))
    assert texts(room) == {"short"}
    assert room.retired.list(10) == []


async def test_a_withdrawn_document_has_no_chunks_and_says_so() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, LONG))
    await room.deliver(withdrawn("b", 2))
    assert texts(room) == set()
    assert isinstance(room.published_for("b"), DocumentUnindexed)


async def test_a_document_that_was_never_there_can_be_withdrawn_and_stays_away() -> None:
    room = Room()
    await room.deliver(withdrawn("b", 2))
    await room.deliver(submitted("a", 1, "older than the withdrawal"))
    assert texts(room) == set()
    assert isinstance(room.published_for("a"), DocumentUnindexed)


async def test_the_same_text_again_is_not_embedded_but_keeps_older_events_out() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "text"))
    await room.deliver(submitted("c", 3, "text"))
    await room.deliver(submitted("b", 2, "older"))
    assert len(room.embedder.calls) == 1
    assert texts(room) == {"text"}
    assert room.published_for("c").submitted_at == at(3)


@pytest.mark.parametrize(
    "change", [{"title": "T"}, {"uri": "https://example.org"}, {"metadata": {"a": 1}}, {"format": "html"}]
)
async def test_another_title_uri_format_or_metadata_is_another_version(change: dict[str, Any]) -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "text"))
    first = room.state()
    await room.deliver(submitted("b", 2, "text", **change))
    assert room.state().version != first.version  # type: ignore[union-attr]
    assert len(room.embedder.calls) == (2 if "title" in change else 1)  # the title is embedded with the text
    assert len(room.chunks.chunks) == 1


async def test_a_text_that_comes_back_is_searchable_while_its_first_version_waits_for_deletion() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "text"))
    with pytest.raises(Crash):
        await room.deliver(submitted("b", 2, "other"), crash="after commit")
    with pytest.raises(Crash):
        await room.deliver(submitted("c", 3, "text"), crash="after commit")
    room.sweep(START)
    state = room.state()
    assert state is not None
    assert room.chunks.versions("default", "d") == {state.version: 1}


async def test_every_order_of_a_documents_events_ends_in_the_same_state() -> None:
    pictures = []
    for order in itertools.permutations(STORY):
        room = Room()
        for event in order:
            await room.deliver(event)
        pictures.append(room.picture())
    assert all(picture == pictures[0] for picture in pictures)
    assert {chunk.text for chunk in pictures[0][2].values()} == {"last text"}  # type: ignore[attr-defined]


async def test_every_division_into_batches_ends_in_the_same_state() -> None:
    pictures = []
    for cuts in itertools.product((False, True), repeat=len(STORY) - 1):
        room = Room()
        batch: list[Received[Event]] = []
        for event, cut in zip(STORY, (*cuts, True), strict=True):
            batch.append(event)
            if cut:
                await room.deliver(*batch)
                batch = []
        pictures.append(room.picture())
    assert all(picture == pictures[0] for picture in pictures)


async def test_of_two_submissions_at_one_moment_the_same_one_wins_in_any_order() -> None:
    pictures = []
    for order in itertools.permutations([submitted("a", 1, "left"), submitted("b", 1, "right")]):
        room = Room()
        await room.deliver(*order)
        pictures.append(room.picture())
    assert pictures[0] == pictures[1]


async def test_only_the_newest_text_of_a_batch_is_embedded_and_each_event_is_answered_with_it() -> None:
    room = Room()
    await room.deliver(*STORY[:2], submitted("other", 1, "another document", document_id="x"), *STORY[2:])
    assert [sorted(call) for call in room.embedder.calls] == [["A title\nlast text", "another document"]]
    answers = [room.published_for(event_id) for event_id in "abcde"]
    assert all(isinstance(answer, DocumentIndexed) for answer in answers)
    assert {answer.submitted_at for answer in answers} == {at(5)}


async def test_an_older_event_alone_commits_what_its_batch_decided() -> None:
    room = Room()
    older, newer = submitted("a", 1, "old"), submitted("b", 2, "new")
    first, _ = await room.indexer.index([older, newer])
    room.commit([(older, first)])  # the newer one's transaction never comes
    state = room.state()
    assert state is not None
    assert (state.submitted_at, texts(room)) == (at(2), {"new"})


async def test_documents_of_the_same_id_in_two_tenants_are_two() -> None:
    room = Room()
    await room.deliver(submitted("a", 1, "mine"), submitted("b", 1, "theirs", tenant="other"))
    await room.deliver(withdrawn("c", 2))
    assert texts(room) == {"theirs"}


async def test_an_event_of_another_topic_is_invalid() -> None:
    received = submitted("a", 1, "text")
    feedback = Received(
        event=FeedbackGiven(answer_id="x", rating="up"), context=received.context, position=received.position
    )
    with pytest.raises(InvalidEvent, match="does not read"):
        await dispatcher("indexer", Room().indexer.handlers())([feedback])


async def test_a_long_text_of_one_word_is_indexed_whole() -> None:
    room = Room(chunk_tokens=220, overlap_tokens=30)
    await room.deliver(submitted("a", 1, "x" * 50_000))
    assert sum(len(text) for text in (chunk.text for chunk in room.chunks.chunks.values())) == 50_000


async def test_documents_wait_where_the_model_of_an_index_is_missing() -> None:
    class Missing:
        def of(self, model: str) -> Any:
            raise ModelMissing(f"{model} is not here: install it")

    room = Room()
    room.writer._embedders = Missing()
    with pytest.raises(Unavailable, match="that this machine does not have: memory is not here: install it"):
        await room.deliver(submitted("a", 1, "text"))
