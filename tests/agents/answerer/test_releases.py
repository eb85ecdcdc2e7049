"""Releases at the answerer: served whole, between batches, or not at all."""

import asyncio
import threading
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from agents.answerer.agent import RETRY_ADOPTION_SECONDS
from infra.memory.engine import MemoryEngine
from schemas.fleet import Serving
from schemas.questions import AnswerFailed
from schemas.tasks import Task, fingerprint_of
from tests.agents.answerer.room import TASKS, Room, question


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


async def test_it_reports_in_what_its_task_is_not_the_one_that_an_adapter_was_validated_on(tmp_path):
    present = fingerprint_of(TASKS["support"], prompt_format=2, engine="e")
    room = Room(tmp_path, fingerprints={"support": present})
    room.train("a1", "a2")
    earlier = present.model_copy(update={"prompt_format": 1})
    await room.release(1, "a1", fingerprints={"a1": earlier, "a2": earlier})
    assert room.answerer.serves()[1].differs == ("a1: prompt format: from 1 to 2",)
    await room.release(2, "a1", fingerprints={"a1": present})
    assert room.answerer.serves()[1].differs == ()


async def test_a_canary_answers_its_share_and_says_so(room):
    room.train("a1", "a2")
    await room.release(1, "a1", challenger="a2", stage="canary", share=0.5, salt="x")
    answers = await room.ask(*(question(user=f"user-{number}") for number in range(40)))
    assert {(answer.arm, answer.adapter_id, answer.text.split()[0]) for answer in answers} == {
        ("champion", "a1", "a1"),
        ("challenger", "a2", "a2"),
    }


async def test_declined_and_refused_questions_carry_the_release_that_would_have_answered(tmp_path):
    strict = Task(name="support", instruction="Help.", retrieval=True, top_k=2, max_tokens=6, unknown="No idea.")
    room = Room(tmp_path, tasks={"support": strict})
    room.train("a1", "a2")
    await room.release(1, "a1")
    await room.release(2, "a1", challenger="a2", stage="canary", share=0.5, salt="x")
    users = [f"user-{number}" for number in range(20)]
    served = await room.ask(*(question("why is my parcel late because of snow", user=user) for user in users))
    declined = await room.ask(*(question("who won the chess game", user=user) for user in users))
    refused = await room.ask(*(question(user=user, filter="lang = ") for user in users))
    assert ({each.declined for each in declined}, {each.type for each in refused}) == ({True}, {AnswerFailed.type})
    releases = [[(each.release_sequence, each.arm, each.adapter_id) for each in some] for some in (served, declined)]
    assert releases[0] == releases[1] == [(each.release_sequence, each.arm, each.adapter_id) for each in refused]
    assert {each.arm for each in served} == {"champion", "challenger"}
    [retrieved] = await room.ask(question(retrieve_only=True))
    assert (retrieved.release_sequence, retrieved.adapter_id) == (0, None)


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
    with capture_logs() as logs:
        await room.release(2, "gone")
    await room.release(1, "r1", task="routing")
    support, routing = await room.ask(question(), question(task="routing"))
    assert (support.adapter_id, support.release_sequence) == ("a1", 1)
    assert (routing.adapter_id, routing.release_sequence) == ("r1", 1)
    assert room.answerer.releases.problem.startswith("support: release 2 is not served, a1 answers: gone is not here")
    assert [line["event"] for line in logs] == ["release not served"]
    assert logs[0]["problem"].startswith("support: release 2 is not served, a1 answers: gone is not here")


async def test_a_missing_adapter_is_served_once_it_is_there(room):
    await room.release(2, "late")
    assert room.answerer.releases.problem.startswith(
        "support: release 2 is not served, the base model answers: late is not here"
    )
    room.train("late")
    assert (await room.ask(question()))[0].release_sequence == 0, "it was looked for a moment ago"
    room.clock.now += timedelta(seconds=RETRY_ADOPTION_SECONDS)
    assert (await room.ask(question()))[0].adapter_id == "late"
    assert room.answerer.releases.problem is None


async def test_the_same_problem_is_logged_once(room):
    with capture_logs() as logs:
        await room.release(1, "gone")
        for _ in range(3):
            room.clock.now += timedelta(seconds=RETRY_ADOPTION_SECONDS)
            await room.answerer.catch_up()
    assert [line["event"] for line in logs] == ["release not served"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), IndexError("out of range"), MemoryError()])
async def test_an_adapter_that_breaks_in_a_way_nobody_foresaw_stops_neither_its_task_nor_others(room, error):
    room.train("a1", "r1")

    def verify(adapter_id):
        if adapter_id == "a1":
            raise error

    room.adapters.verify = verify
    await room.release(1, "a1")
    await room.release(1, "r1", task="routing")
    support, routing = await room.ask(question(), question(task="routing"))
    assert (support.adapter_id, support.release_sequence, support.text.split()[0]) == (None, 0, "memory")
    assert routing.adapter_id == "r1"
    assert "a1 cannot be loaded (" in room.answerer.releases.problem
    assert room.answerer.releases.problem.endswith("train it again, or roll back")


async def test_a_worker_that_starts_in_a_canary_without_its_challenger_serves_the_champion(room):
    room.train("a1")
    await room.release(3, "a1", challenger="gone", stage="canary", share=0.5, salt="x")
    answers = await room.ask(*(question(user=f"user-{number}") for number in range(20)))
    assert {(each.arm, each.adapter_id, each.release_sequence) for each in answers} == {("champion", "a1", 3)}
    assert room.answerer.releases.problem.startswith("support: release 3 is not served, a1 answers: gone is not here")
    room.train("gone")
    room.clock.now += timedelta(seconds=RETRY_ADOPTION_SECONDS)
    answers = await room.ask(*(question(user=f"user-{number}") for number in range(20)))
    assert {each.arm for each in answers} == {"champion", "challenger"}


class StuckEngine(MemoryEngine):
    """Cannot free an adapter."""

    def set_adapters(self, adapters):
        if not self.adapters <= adapters.keys():
            raise RuntimeError("cannot be freed")
        super().set_adapters(adapters)


async def test_an_adapter_that_cannot_be_freed_stops_no_question_and_no_release(tmp_path):
    room = Room(tmp_path, StuckEngine())
    room.train("a1", "a2")
    await room.release(1, "a1")
    with capture_logs() as logs:
        await room.release(2, "a2")
    assert [line["reason"] for line in logs] == ["RuntimeError: cannot be freed"]
    assert (await room.ask(question()))[0].adapter_id == "a2"


async def test_a_worker_that_starts_in_a_canary_without_any_adapter_leaves_the_task_to_the_base_model(room):
    await room.release(3, "lost", challenger="gone", stage="canary", share=0.5, salt="x")
    assert (await room.ask(question()))[0].release_sequence == 0
    assert "release 3 is not served, the base model answers: lost is not here" in room.answerer.releases.problem


async def test_a_rollback_helps_where_a_release_cannot_be_served(room):
    await room.release(1, "gone")
    await room.release(2, None, previous=None)
    assert room.answerer.releases.problem is None
    assert (await room.ask(question()))[0].release_sequence == 2


async def test_a_release_of_a_task_that_was_removed_is_no_problem(room):
    await room.release(1, "gone", task="removed")
    assert room.answerer.releases.problem is None
    assert not room.answerer.releases.behind


async def test_a_loaded_adapter_whose_folder_is_gone_goes_on_serving(room):
    room.train("a1", "r1")
    await room.release(1, "a1")
    del room.adapters.folders["a1"]
    await room.release(1, "r1", task="routing")
    assert room.engine.adapters == {"a1", "r1"}
    assert room.answerer.releases.problem is None


async def test_the_promotion_of_a_canary_loads_nothing_and_the_way_back_is_a_swap_too(room):
    room.train("a1", "a2")
    await room.release(1, "a1")
    await room.release(2, "a1", challenger="a2", stage="canary", share=0.0, salt="x")
    loads = room.engine.loads
    room.adapters.folders.clear()
    await room.release(3, "a2", previous="a1")
    assert (await room.ask(question()))[0].adapter_id == "a2"
    await room.release(4, "a1", previous="a2")
    assert (await room.ask(question()))[0].adapter_id == "a1"
    assert room.engine.loads == loads
    assert room.answerer.releases.problem is None


async def test_at_most_three_adapters_of_a_task_are_loaded(room):
    names = [f"a{number}" for number in range(8)]
    room.train(*names)
    for number, (previous, champion, challenger) in enumerate(zip(names, names[1:], names[2:], strict=False)):
        await room.release(2 * number + 1, champion, previous=previous)
        canary = {"challenger": challenger, "stage": "canary", "share": 0.5, "salt": "x"}
        await room.release(2 * number + 2, champion, previous=previous, **canary)
        assert room.engine.adapters == {previous, champion, challenger}


async def test_a_lost_way_back_is_told_and_hinders_nothing(room):
    room.train("a2")
    await room.release(3, "a2", previous="a1")
    assert (await room.ask(question()))[0].adapter_id == "a2"
    assert (
        room.answerer.releases.problem
        == "support: there is no way back, for a1 is not here: train it again, or roll back"
    )


BROKEN = {
    "changed": (lambda room: room.adapters.changed.add("a2"), "a2: its files were changed"),
    "never validated": (lambda room: room.adapters.probed.pop("a2"), "a2 was never validated"),
    "another one": (
        lambda room: room.adapters.probed.update(a2=room.adapters.probed["a1"]),
        "a2 does not answer as it did when it was validated, 4 of 4 probes differ, such as 'a2 ",
    ),
    "crashing": (lambda room: setattr(room.engine, "crash_on", "three"), "a2 cannot be probed"),
    "unreadable": (lambda room: (room.folder / "a2" / "adapter_config.json").unlink(), "a2 has no adapter_config"),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_an_adapter_that_is_not_the_validated_one_leaves_the_old_release_serving(room, kind):
    breaks, reason = BROKEN[kind]
    room.train("a1", "a2")
    await room.release(1, "a1")
    breaks(room)
    await room.release(2, "a2", previous="a1")
    (answer,) = await room.ask(question())
    assert (answer.adapter_id, answer.release_sequence) == ("a1", 1)
    assert room.answerer.releases.problem.startswith(f"support: release 2 is not served, a1 answers: {reason}")
    assert "\n" not in room.answerer.releases.problem
    assert room.engine.adapters == {"a1"}
    assert room.answerer.releases.behind


async def test_an_adapter_that_was_installed_by_hand_is_served_where_that_is_allowed(tmp_path):
    room = Room(tmp_path, unprobed=True)
    room.train("a1")
    room.adapters.probed.clear()
    await room.release(1, "a1")
    assert (await room.ask(question()))[0].adapter_id == "a1"


class SlowEngine(MemoryEngine):
    """Answers probes at once, and questions only when the test lets it. ``log``: its adapters and answers, in order."""

    def __init__(self):
        super().__init__()
        self.entered, self.leave = threading.Event(), threading.Event()
        self.log = []

    def set_adapters(self, adapters):
        super().set_adapters(adapters)
        self.log.append(set(adapters))

    def generate(self, requests):
        if any(len(request.messages) > 1 for request in requests):
            self.entered.set()
            assert self.leave.wait(10)
            self.log.append("answered")
        return super().generate(requests)


async def served(room, sequence):
    """Waits until the answerer serves a release of the support task."""
    for _ in range(1000):
        if room.answerer.serves()[1].sequence == sequence:
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"release {sequence} is not served after ten seconds")


async def test_a_swap_during_a_batch_is_seen_by_the_next_batch_and_by_no_answer_of_this_one(tmp_path):
    engine = SlowEngine()
    room = Room(tmp_path, engine)
    room.train("a1", "a2")
    await room.release(1, "a1")
    answering = asyncio.create_task(room.ask(*(question(user=f"u{number}") for number in range(6))))
    await asyncio.to_thread(engine.entered.wait, 10)
    canary = {"challenger": "a2", "stage": "canary", "share": 1.0, "salt": "x"}
    following = asyncio.create_task(room.release(2, "a1", **canary))
    await served(room, 2)
    assert room.answerer.serves()[1].adapters == ("a1", "a2"), "the swap waits for no batch"
    engine.leave.set()
    answers = await answering
    await following
    assert {_traced(answer) for answer in answers} == {("a1", "champion", 1, "a1")}
    assert {_traced(answer) for answer in await room.ask(question(), question())} == {("a2", "challenger", 2, "a2")}


async def test_what_a_batch_under_way_may_ask_for_is_dropped_after_it(tmp_path):
    engine = SlowEngine()
    room = Room(tmp_path, engine)
    room.train("a1", "a2")
    await room.release(1, "a1")
    answering = asyncio.create_task(room.ask(question(), question()))
    await asyncio.to_thread(engine.entered.wait, 10)
    following = asyncio.create_task(room.release(2, "a2"))
    await served(room, 2)
    engine.leave.set()
    assert {_traced(answer) for answer in await answering} == {("a1", "champion", 1, "a1")}
    await following
    assert engine.log == [{"a1"}, {"a1", "a2"}, "answered", {"a2"}]


async def test_answers_under_many_swaps_are_each_of_one_release_whole(tmp_path):
    """Sequence n serves adapter a(n % 4): the sequence, adapter and text of an answer must fit together."""
    room = Room(tmp_path)
    room.train("a0", "a1", "a2", "a3")
    answers = []

    async def release():
        for sequence in range(1, 41):
            await room.release(sequence, f"a{sequence % 4}", previous=f"a{(sequence - 1) % 4}")
            await asyncio.sleep(0.001)

    releasing = asyncio.create_task(release())
    while not releasing.done():
        answers += await room.ask(question(), question())
        await asyncio.sleep(0)
    assert len({answer.release_sequence for answer in answers}) > 5
    for answer in answers:
        wanted = f"a{answer.release_sequence % 4}" if answer.release_sequence else None
        assert (answer.adapter_id, answer.text.split()[0]) == (wanted, wanted or "memory")


def _traced(answer):
    return answer.adapter_id, answer.arm, answer.release_sequence, answer.text.split()[0]
