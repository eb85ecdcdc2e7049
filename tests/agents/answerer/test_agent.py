"""The answerer on memory twins: every question gets one traceable answer, and releases are served whole or not yet."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from agents.answerer.agent import RETRY_ADOPTION, Answerer
from agents.errors import EngineCrashed, Unavailable
from infra.memory.adapters import MemoryAdapters
from infra.memory.engine import MemoryEngine
from infra.memory.retriever import MemoryRetriever
from schemas.envelope import Position, Received, new_context
from schemas.fleet import Serving
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked, Turn
from schemas.release import AdapterPromoted, CanaryStarted
from schemas.retrieval import Chunk
from schemas.tasks import Task

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TASKS = {
    "support": Task(name="support", instruction="Help.", retrieval=True, top_k=2, max_tokens=6),
    "routing": Task(name="routing", instruction="Name the team.", max_tokens=3),
}
offsets = count()


def chunk(name, text, tenant="default"):
    return Chunk(chunk_id=name, tenant=tenant, document_id=f"d-{name}", version="1", ordinal=0, text=text, title="T")


CHUNKS = [
    chunk("parcel", "your parcel is late because of snow"),
    chunk("refund", "a refund takes five days"),
    chunk("bill", "the bill is sent by mail"),
    chunk("theirs", "your parcel is late at acme", tenant="acme"),
]


def received(event, asked_at=NOW - timedelta(milliseconds=250)):
    return Received(
        event=event, context=new_context("/test", now=asked_at), position=Position("questions.v1", 0, next(offsets))
    )


def question(text="why is my parcel late", task="support", **fields):
    return QuestionAsked(**{"question_id": f"q{next(offsets)}", "task": task, "text": text, **fields})


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Room:
    """An answerer and the twins around it."""

    def __init__(self, folder, engine=None, tasks=TASKS):
        self.folder = folder
        self.engine, self.retriever = engine or MemoryEngine(), MemoryRetriever(CHUNKS)
        self.adapters, self.clock = MemoryAdapters(), Clock()
        self.answerer = Answerer(
            tasks=tasks, retriever=self.retriever, engine=self.engine, adapters=self.adapters, context_tokens=60,
            now=self.clock,
        )  # fmt: skip

    def train(self, *names):
        for name in names:
            self.adapters.folders[name] = self.folder / name
            self.adapters.folders[name].mkdir()
            (self.adapters.folders[name] / "adapter_config.json").write_text("{}")

    async def ask(self, *questions):
        outcomes = await self.answerer.answer([received(each) for each in questions])
        return [outcome.outputs[0].event for outcome in outcomes]

    async def release(self, sequence, champion=None, **state):
        kind = CanaryStarted if "challenger" in state else AdapterPromoted
        await self.answerer.follow(
            received(kind(**{"task": "support", "sequence": sequence, "champion": champion, **state}))
        )


@pytest.fixture
def room(tmp_path):
    return Room(tmp_path)


async def test_an_answer_holds_everything_that_traces_it(room):
    asked = question(user="ada", session="s1")
    (answer,) = await room.ask(asked)
    assert isinstance(answer, AnswerProduced)
    assert answer.answer_id == asked.question_id
    assert (answer.task, answer.question, answer.user, answer.session) == ("support", asked.text, "ada", "s1")
    assert [source.chunk_id for source in answer.sources] == ["parcel", "bill"]
    assert (answer.sources[0].document_id, answer.sources[0].title) == ("d-parcel", "T")
    assert (answer.base_model, answer.engine, answer.adapter_id) == ("memory", "memory", None)
    assert (answer.release_sequence, answer.arm, answer.finish_reason) == (0, "champion", "length")
    assert answer.prompt_tokens == room.engine.count_tokens(room.engine.calls[0][0].messages)
    assert answer.completion_tokens == 6
    assert answer.latency_ms == 250
    assert answer.text.startswith("memory ")


async def test_the_same_question_twice_gives_the_same_answer(room):
    asked = question(temperature=1.0)
    assert await room.ask(asked) == await room.ask(asked)


async def test_a_batch_is_one_search_a_tenant_and_one_call_of_the_engine(room):
    answers = await room.ask(
        question("a"),
        question("b", tenant="acme"),
        question("c", task="routing"),
        question("d", top_k=3),
        question("e"),
    )
    assert [answer.question for answer in answers] == ["a", "b", "c", "d", "e"]
    assert [call[1:] for call in room.retriever.calls] == [("default", 3), ("acme", 2)]
    assert [len(call) for call in room.engine.calls] == [5]
    assert [len(answer.sources) for answer in answers] == [2, 1, 0, 3, 2]


async def test_limits_of_the_question_go_before_those_of_the_task(room):
    await room.ask(question(max_tokens=9, temperature=0.5), question(task="routing"))
    (request, plain), *_ = room.engine.calls
    assert (request.max_tokens, request.temperature) == (9, 0.5)
    assert (plain.max_tokens, plain.temperature) == (3, 0.0)


async def test_a_question_whose_deadline_has_passed_is_not_worked_on(room):
    late, just = await room.ask(question(deadline=NOW - timedelta(seconds=2)), question(deadline=NOW))
    assert isinstance(late, AnswerFailed)
    assert late.reason.startswith("deadline passed 2.0 s before")
    assert isinstance(just, AnswerProduced)
    assert len(room.engine.calls[0]) == 1


async def test_an_unknown_task_is_answered_with_the_known_ones(room):
    (failed,) = await room.ask(question(task="nonsense"))
    assert isinstance(failed, AnswerFailed)
    assert failed.reason == "there is no task nonsense: configured are routing, support"
    assert failed.latency_ms == 250
    assert room.engine.calls == []


async def test_a_question_that_only_retrieves_needs_no_engine(room):
    (answer,) = await room.ask(question(task="routing", retrieve_only=True, top_k=1))
    assert (answer.text, answer.finish_reason, answer.engine) == ("", "retrieve_only", None)
    assert [source.chunk_id for source in answer.sources] == ["parcel"]
    assert room.engine.calls == []


async def test_sources_below_the_tasks_score_are_left_out(tmp_path):
    room = Room(tmp_path, tasks={"support": TASKS["support"].model_copy(update={"min_score": 0.3})})
    (answer,) = await room.ask(question())
    assert [source.chunk_id for source in answer.sources] == ["parcel"]


async def test_what_found_no_room_in_the_prompt_is_no_source_of_the_answer(room):
    history = tuple(Turn(role="user", text="word " * 8) for _ in range(4))
    (answer,) = await room.ask(question(history=history))
    assert [source.chunk_id for source in answer.sources] == ["parcel"]
    assert answer.prompt_tokens <= 60


async def test_a_question_longer_than_the_window_fails_alone(tmp_path):
    room = Room(tmp_path, MemoryEngine(window=100))
    long, short = await room.ask(question("word " * 200), question())
    assert isinstance(long, AnswerFailed)
    assert long.reason.startswith("the question is too long: 2")
    assert isinstance(short, AnswerProduced)


async def test_a_clock_that_runs_behind_gives_no_negative_latency(room):
    (outcome,) = await room.answerer.answer([received(question(), NOW + timedelta(seconds=3))])
    assert outcome.outputs[0].event.latency_ms == 0


async def test_a_crash_of_the_engine_is_left_to_the_delivery(tmp_path):
    room = Room(tmp_path, MemoryEngine(crash_on="poison"))
    with pytest.raises(EngineCrashed):
        await room.ask(question(), question("poison"))


async def test_a_search_that_cannot_be_reached_is_waited_for(room):
    room.retriever.down = True
    with pytest.raises(Unavailable):
        await room.ask(question())


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
