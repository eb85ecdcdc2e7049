"""What a sweep deletes: vectors that were not used for long, and indexes once nobody can be using them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from agents.indexer.sweep import DROP_AFTER
from tests.agents.indexer.room import START, Room, submitted
from tests.fixtures.indexes import index


async def test_a_replaced_index_is_dropped_when_no_batch_can_be_using_it_any_more() -> None:
    room = Room()
    room.indexes.add(index("new"))
    await room.deliver(submitted("a", 1, "text"))
    room.indexes.retire("index0")
    room.sweep(START)
    room.sweep(START + DROP_AFTER)
    assert {each.index_id for each in room.indexes.all()} == room.stores.keys() == {"index0", "new"}
    room.sweep(START + DROP_AFTER + timedelta(seconds=1))
    assert {each.index_id for each in room.indexes.all()} == room.stores.keys() == {"new"}
    assert len(room.stores["new"].chunks) == 1


async def test_vectors_that_were_not_used_for_long_are_deleted() -> None:
    room = Room()
    room.vectors.put("memory", {"h": np.zeros(64, dtype=np.float32)}, START)
    room.sweep(START + timedelta(days=30))
    assert room.vectors.find("memory", ["h"], START).keys() == {"h"}
    room.sweep(START + timedelta(days=30, seconds=1))
    assert room.vectors.find("memory", ["h"], START) == {}
