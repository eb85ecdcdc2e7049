"""A rebuild has the result of an undisturbed one, wherever it dies and whatever happens to documents meanwhile."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import EverlearnError, Unavailable
from tests.agents.indexer.rebuild_room import LIVE, NEW, RebuildRoom, Slow, Step, outside_transactions
from tests.agents.indexer.room import Crash
from tests.fixtures.indexes import index


@pytest.fixture
def new_room(tmp_path: Path) -> Callable[[], RebuildRoom]:
    numbers = itertools.count()
    return lambda: RebuildRoom(tmp_path / str(next(numbers)))


def crash() -> None:
    raise Crash


def test_the_new_index_holds_every_document_serves_and_retires_the_old_one(new_room: Callable[[], RebuildRoom]) -> None:
    calm = new_room()
    before = {chunk.document_id: chunk.text for chunk in calm.room.chunks.chunks.values()}
    built = calm.build()
    chunks = calm.room.stores["new"].chunks.values()
    assert {chunk.document_id for chunk in chunks} == before.keys()
    assert calm.states() == {"index0": "retired", "new": "serving"}
    assert (built.index, built.documents, built.chunks) == (NEW, 4, len(chunks))
    assert calm.room.documents.totals() == (4, len(chunks))
    state = calm.room.state("a")
    assert state is not None
    assert (state.embedding_model, state.next_chunk_count) == ("other", None)


def test_it_goes_on_after_a_crash_at_any_step(new_room: Callable[[], RebuildRoom]) -> None:
    calm = new_room()
    calm.build()
    total, expected = calm.steps, calm.picture()
    assert total > 20
    for number in range(1, total + 1):
        room = new_room()
        with pytest.raises(Crash):
            room.build(at={number: crash})
        room.build()
        assert room.picture() == expected, number


def test_what_is_replaced_before_or_while_it_is_down_leaves_nothing_behind(new_room: Callable[[], RebuildRoom]) -> None:
    expected, free = ending(new_room()), outside_transactions(new_room())
    for replaced, gap in itertools.product(free[:-1], (0, 1, 2)):
        room = new_room()
        events = {replaced: lambda room=room: room.deliver(*LIVE.values())}
        with pytest.raises(Crash):
            room.build(at={**events, replaced + gap: crash} if gap else {replaced: crash})
        if not gap:
            room.deliver(*LIVE.values())
        room.build()
        assert room.picture() == expected, (replaced, gap)


def ending(room: RebuildRoom) -> tuple[object, ...]:
    """Returns the final state that every order of events must lead to."""
    room.deliver(*LIVE.values())
    room.build()
    return room.picture()


def test_events_during_the_build_are_in_the_new_index_whenever_they_come(new_room: Callable[[], RebuildRoom]) -> None:
    expected, free = ending(new_room()), outside_transactions(new_room())
    choose = random.Random(3)
    stories = [dict.fromkeys(LIVE, number) for number in free]
    stories += [{name: choose.choice(free) for name in LIVE} for _ in range(60)]
    for story in stories:
        room = new_room()
        room.build(at={number: at_once(room, story, number) for number in set(story.values())})
        assert room.picture() == expected, story


def at_once(room: RebuildRoom, story: Mapping[str, int], number: int) -> Step:
    return lambda: room.deliver(*(LIVE[name] for name, at in story.items() if at == number))


@pytest.mark.parametrize("name", LIVE)
def test_an_event_that_is_written_and_committed_at_different_steps_ends_the_same(
    new_room: Callable[[], RebuildRoom], name: str
) -> None:
    event = LIVE[name]
    calm = new_room()
    calm.deliver(event)
    calm.build()
    expected, free = calm.picture(), outside_transactions(new_room())
    again = 0
    for begun, committed in itertools.combinations(free, 2):
        room = new_room()
        worker = Slow(room, event)
        room.build(at={begun: worker.index, committed: worker.commit})
        again += worker.refused
        assert room.picture() == expected, (begun, committed)
    assert again > 2  # across the beginning, and across the switch


def test_a_document_of_which_nothing_is_kept_fails_with_its_name(new_room: Callable[[], RebuildRoom]) -> None:
    room = new_room()
    state = room.room.state("d")
    assert state is not None
    room.room.documents.put(replace(state, document_id="lost"))
    with pytest.raises(EverlearnError, match=r"of document 'lost' SQL has no text.*publish it again") as caught:
        room.build()
    assert not isinstance(caught.value, Unavailable)
    assert room.states() == {"index0": "serving", "new": "building"}


def test_another_rebuild_supersedes_one_that_was_given_up(new_room: Callable[[], RebuildRoom]) -> None:
    expected = ending(new_room())
    room = new_room()
    with pytest.raises(Crash):
        room.build(replace(NEW, index_id="old"), at={8: crash})
    (room.folder / "place.json").unlink(missing_ok=True)  # the other run's folder
    room.deliver(*LIVE.values())
    room.build()
    with pytest.raises(EverlearnError, match="given up"):
        room.build(replace(NEW, index_id="old"))
    assert room.states() == {"index0": "retired", "new": "serving", "old": "retired"}
    assert room.picture()[:3] == expected[:3]


def test_one_that_was_retired_on_its_way_does_not_serve(new_room: Callable[[], RebuildRoom]) -> None:
    room = new_room()
    with pytest.raises(EverlearnError, match="given up"):
        room.build(at={10: lambda: room.room.indexes.retire("new")})
    assert room.states() == {"index0": "serving", "new": "retired"}


def test_a_resumed_build_keeps_the_recipe_that_it_was_begun_with(new_room: Callable[[], RebuildRoom]) -> None:
    room = new_room()
    with pytest.raises(Crash):
        room.build(at={8: crash})
    built = room.build(index("new", model="yet another", chunk_tokens=64, state="building"))
    assert built.index.recipe == NEW.recipe


def test_the_index_of_a_task_leaves_the_shared_one_and_its_counts_alone(new_room: Callable[[], RebuildRoom]) -> None:
    room = new_room()
    before = room.room.documents.totals()
    room.build(replace(NEW, scope="support"))
    assert room.states() == {"index0": "serving", "new": "serving"}
    assert room.room.documents.totals() == before
    assert len(room.room.stores["new"].chunks) > 0
