"""The answerer: what an answer holds, which questions fail, and which errors it leaves to the delivery."""

from datetime import timedelta

import pytest

from agents.delivery.worker import dispatcher
from infra.memory.engine import MemoryEngine
from schemas.envelope import decode, encode, new_context
from schemas.errors import EngineCrashed, Unavailable
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked, Turn
from schemas.tasks import Task
from tests.agents.answerer.room import NOW, TASKS, Room, question, received
from tests.agents.delivery.rig import Rig, as_message


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


async def test_a_batch_is_one_call_of_the_search_and_one_of_the_engine(room):
    answers = await room.ask(
        question("a"),
        question("b", tenant="acme"),
        question("c", task="routing"),
        question("d", top_k=3),
        question("e"),
    )
    assert [answer.question for answer in answers] == ["a", "b", "c", "d", "e"]
    (searches,) = room.retriever.calls
    assert [(each.tenant, each.k) for each in searches] == [
        ("default", 2),
        ("acme", 2),
        ("default", 0),
        ("default", 3),
        ("default", 2),
    ]
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
    assert failed.reason == "there is no task 'nonsense': choose from routing, support"
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


async def test_what_no_document_answers_is_declined_without_the_model_and_keeps_what_was_found(tmp_path):
    strict = Task(name="support", instruction="Help.", retrieval=True, top_k=2, max_tokens=6, unknown="No idea.")
    room = Room(tmp_path, tasks={"support": strict})
    known, unknown = await room.ask(
        question("why is my parcel late because of snow"), question("who won the chess game")
    )
    assert (known.declined, unknown.declined) == (False, True)
    assert (unknown.text, unknown.engine, len(unknown.sources)) == ("No idea.", None, 2)
    assert [len(call) for call in room.engine.calls] == [1]


async def test_a_filter_and_a_tenant_that_cannot_be_are_failures_in_one_line(room):
    (failed,) = await room.ask(question(filter="lang = "))
    assert failed.reason.startswith("the filter cannot be read: ")
    room.answerer._tenants = ("acme",)
    (failed,) = await room.ask(question())
    assert failed.reason == "there is no tenant default: [tenants] names lists acme"


async def test_a_question_longer_than_the_window_fails_alone(tmp_path):
    room = Room(tmp_path, MemoryEngine(window=50))
    long, short = await room.ask(question("word " * 200), question())
    assert isinstance(long, AnswerFailed)
    assert long.reason == (
        "the question is too long: 217 tokens with its instruction, and 44 fit into the model's window: shorten it, or "
        "ask for a shorter answer"
    )
    assert isinstance(short, AnswerProduced)


@pytest.mark.parametrize("task", ["support", "routing"])
async def test_a_question_longer_than_the_context_fails_alone_and_names_the_setting(room, task):
    long, short = await room.ask(question("word " * 6300, task=task), question(task=task))
    assert isinstance(long, AnswerFailed)
    assert "tokens with its instruction, and 60 fit into [answerer] context_tokens = 60: shorten it, or" in long.reason
    assert isinstance(short, AnswerProduced)
    assert [len(call) for call in room.engine.calls] == [1], "no model reads the long one"


async def test_an_instruction_that_leaves_no_room_for_a_question_is_named(tmp_path):
    wordy = Task(name="wordy", instruction="word " * 100, labels=("a", "b"))
    (failed,) = await Room(tmp_path, tasks={"wordy": wordy}).ask(question("hello", task="wordy"))
    assert isinstance(failed, AnswerFailed)
    assert failed.reason.startswith("the instruction of the task wordy is too long: 118 tokens with its labels, and 60")


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


async def test_an_asker_hears_of_a_question_that_crashes_the_engine_each_time(tmp_path):
    """Through delivery: the question beside it is answered, and the asker of the bad one hears once."""
    room, rig = Room(tmp_path, MemoryEngine(crash_on="poison")), Rig(read=("questions.v1",))
    asked = [question(), question("poison parcel", user="ada")]
    messages = [
        as_message(encode(each, new_context("/test", now=NOW, event_id=each.question_id)), number)
        for number, each in enumerate(asked)
    ]
    rig.clock.now = NOW
    for _ in range(2):
        handle = dispatcher("answerer", room.answerer.handlers())
        await rig.delivery(handle, given_up={QuestionAsked: room.answerer.given_up}).deliver(messages)
    events = [
        decode("answers.v1", record.value, record.headers, now=NOW + timedelta(days=1))
        for record in rig.kafka.topic("answers.v1")
    ]
    (good, _), (bad, context) = events
    assert isinstance(good, AnswerProduced)
    assert good.answer_id == asked[0].question_id
    assert isinstance(bad, AnswerFailed)
    assert (bad.answer_id, bad.user, bad.question) == (asked[1].question_id, "ada", "poison parcel")
    assert bad.reason.startswith("given up after 3 attempts: ")
    assert context.causation_id == asked[1].question_id
    assert len(rig.kafka.records) == 3  # with one dead letter
