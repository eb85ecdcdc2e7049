"""Releases at the answerer: served whole, between batches, or not at all."""

import asyncio
import threading

import pytest

from agents.answerer.agent import RETRY_ADOPTION
from infra.memory.engine import MemoryEngine
from schemas.fleet import Serving
from tests.agents.answerer.room import Room, question


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


async def test_a_release_is_served_from_the_next_batch_on(room):
    room.train("a1")
    await room.release(1, "a1")
    support, routing = await room.ask(question(), question(task="routing"))
    assert (support.adapter_id, support.release_sequence, support.text.split()[0]) == ("a1", 1, "a1")
    assert (routing.adapter_id, routing.release_sequence) == (None, 0)
    assert room.answerer.serves() == [Serving(task="routing"), Serving(task="support", sequence=1, adapters=("a1",))]


async def test_a_canary_answers_its_share_and_says_so(room):
    room.train("a1", "a2")
    await room.release(1, "a1", challenger="a2", stage="canary", share=0.5, salt="x")
    answers = await room.ask(*(question(user=f"user-{number}") for number in range(40)))
    assert {(answer.arm, answer.adapter_id, answer.text.split()[0]) for answer in answers} == {
        ("champion", "a1", "a1"),
        ("challenger", "a2", "a2"),
    }


async def test_an_old_release_and_a_repeated_one_change_nothing(room):
    room.train("a1", "a2")
    await room.release(5, "a2")
    await room.release(5, "a2")
    await room.release(4, "a1")
    (answer,) = await room.ask(question())
    assert (answer.adapter_id, answer.release_sequence) == ("a2", 5)


async def test_adapters_that_nothing_uses_any_more_are_dropped(room):
    room.train("a1", "a2", "r1")
    await room.release(1, "r1", task="routing")
    await room.release(1, "a1")
    await room.release(2, "a2")
    assert room.engine.adapters == {"a2", "r1"}


async def test_a_missing_adapter_leaves_the_old_release_serving_and_is_reported(room):
    room.train("a1", "r1")
    await room.release(1, "a1")
    await room.release(2, "gone")
    await room.release(1, "r1", task="routing")
    support, routing = await room.ask(question(), question(task="routing"))
    assert (support.adapter_id, support.release_sequence) == ("a1", 1)
    assert (routing.adapter_id, routing.release_sequence) == ("r1", 1)
    assert room.answerer.problem.startswith("support: gone is not here")


async def test_a_missing_adapter_is_served_once_it_is_there(room):
    await room.release(2, "late")
    room.train("late")
    assert (await room.ask(question()))[0].release_sequence == 0, "it was looked for a moment ago"
    room.clock.now += RETRY_ADOPTION
    assert (await room.ask(question()))[0].adapter_id == "late"
    assert room.answerer.problem is None


async def test_a_loaded_adapter_whose_folder_is_gone_goes_on_serving(room):
    room.train("a1", "r1")
    await room.release(1, "a1")
    del room.adapters.folders["a1"]
    await room.release(1, "r1", task="routing")
    assert room.engine.adapters == {"a1", "r1"}
    assert room.answerer.problem is None


class SlowEngine(MemoryEngine):
    """Generates only once it is let."""

    def __init__(self):
        super().__init__()
        self.entered, self.leave = threading.Event(), threading.Event()

    def generate(self, requests):
        self.entered.set()
        assert self.leave.wait(10)
        return super().generate(requests)


async def test_a_release_waits_for_the_batch_that_is_being_answered(tmp_path):
    engine = SlowEngine()
    room = Room(tmp_path, engine)
    room.train("a1", "a2")
    await room.release(1, "a1")
    answering = asyncio.create_task(room.ask(question(), question()))
    await asyncio.to_thread(engine.entered.wait, 10)
    following = asyncio.create_task(room.release(2, "a2"))
    await asyncio.sleep(0.05)
    assert not following.done()
    engine.leave.set()
    answers = await answering
    await following
    assert {(answer.adapter_id, answer.release_sequence, answer.text.split()[0]) for answer in answers} == {
        ("a1", 1, "a1")
    }
    assert room.engine.adapters == {"a2"}
