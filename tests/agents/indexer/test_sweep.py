"""What a sweep deletes: vectors that were not used for long, and indexes once nobody can be using them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from agents.indexer.sweep import DROP_AFTER, LOOK_FOR_STRAYS, STRAY_AFTER, Sweeper
from schemas.indexes import Index
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


class Strays:
    """Collections that no index names; True for those of an earlier version."""

    def __init__(self, **found: bool) -> None:
        self.found, self.looked = found, 0

    def strays(self, _: Sequence[Index]) -> dict[str, bool]:
        self.looked += 1
        return dict(self.found)

    def drop_stray(self, name: str) -> None:
        del self.found[name]


async def test_what_an_earlier_version_wrote_is_dropped_and_what_this_one_wrote_only_after_a_day() -> None:
    room, strays = Room(), Strays(old=True, lost=False)
    sweeper = Sweeper(
        indexes=room.indexes, stores=room, retired=room.retired, vectors=room.vectors, keep_vectors=timedelta(days=30),
        strays=strays,
    )  # fmt: skip
    sweeper.drop_strays(START)
    assert strays.found == {"lost": False}
    sweeper.drop_strays(START + LOOK_FOR_STRAYS - timedelta(seconds=1))
    assert strays.looked == 1
    sweeper.drop_strays(START + STRAY_AFTER)
    assert strays.found == {"lost": False}
    sweeper.drop_strays(START + STRAY_AFTER + LOOK_FOR_STRAYS)
    assert strays.found == {}


async def test_a_collection_that_an_index_named_in_between_begins_its_day_again() -> None:
    room, strays = Room(), Strays(lost=False)
    sweeper = Sweeper(
        indexes=room.indexes, stores=room, retired=room.retired, vectors=room.vectors, keep_vectors=timedelta(days=30),
        strays=strays,
    )  # fmt: skip
    sweeper.drop_strays(START)
    del strays.found["lost"]
    sweeper.drop_strays(START + LOOK_FOR_STRAYS)
    strays.found["lost"] = False
    sweeper.drop_strays(START + STRAY_AFTER)
    sweeper.drop_strays(START + STRAY_AFTER + LOOK_FOR_STRAYS)
    assert strays.found == {"lost": False}
