"""Documents go to every index, and no text is embedded twice."""

from __future__ import annotations

import pytest

from schemas.errors import InvalidEvent, Unavailable
from tests.agents.indexer.room import LONG, Room, submitted, withdrawn
from tests.fixtures.indexes import index


async def test_of_a_changed_document_only_what_is_new_is_embedded() -> None:
    room = Room(overlap_tokens=0)
    one, two, three = (" ".join(f"{word}{number}" for number in range(14)) for word in ("red", "green", "blue"))
    await room.deliver(submitted("a", 1, f"{one}\n\n{two}"))
    await room.deliver(submitted("b", 2, f"{one}\n\n{three}"))
    await room.deliver(submitted("c", 3, f"{one}\n\n{two}"))
    embedded = [text for call in room.embedder.calls for text in call]
    assert len(embedded) == len(set(embedded))
    assert any(three in text for text in embedded)
    assert {chunk.version for chunk in room.chunks.chunks.values()} == {room.state().version}  # type: ignore[union-attr]


async def test_a_document_of_another_tenant_than_those_that_are_named_is_invalid() -> None:
    room = Room(tenants=("acme",))
    with pytest.raises(InvalidEvent, match=r"no tenant 'default'.*acme"):
        await room.indexer.index([submitted("a", 1, "text")])


async def test_documents_are_written_to_every_index_and_to_one_that_is_being_built() -> None:
    room = Room()
    room.indexes.add(index("other", "support", chunk_tokens=8, overlap_tokens=0))
    room.indexes.add(index("next", state="building", chunk_tokens=8, overlap_tokens=0))
    await room.deliver(submitted("a", 1, LONG))
    counts = {name: len(store.chunks) for name, store in room.stores.items()}
    assert counts["other"] == counts["next"] > counts["index0"] > 0
    state = room.state()
    assert state is not None
    assert (state.chunk_count, state.next_chunk_count) == (counts["index0"], counts["next"])
    await room.deliver(withdrawn("b", 2))
    assert {name: len(store.chunks) for name, store in room.stores.items()} == dict.fromkeys(counts, 0)


async def test_a_batch_that_was_written_before_another_index_came_is_tried_again() -> None:
    room = Room()
    event = submitted("a", 1, "text")
    (outcome,) = await room.indexer.index([event])
    room.indexes.add(index("next", state="building"))
    with pytest.raises(Unavailable, match="trying again"):
        room.commit([(event, outcome)])
    assert room.state() is None
    await room.deliver(event)
    assert len(room.stores["next"].chunks) == 1
