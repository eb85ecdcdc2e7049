"""The recorder on each database: whatever comes, however often and in whatever order, the table ends the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest

from agents.delivery.outcome import Output
from agents.delivery.worker import BatchHandler, dispatcher
from agents.recorder.agent import Recorder
from agents.recorder.features import MOST_RATERS, Question, merge
from agents.recorder.ports import FeatureTable
from agents.recorder.voices import Rules
from schemas.envelope import Received
from schemas.errors import InvalidEvent
from schemas.event import Event
from schemas.features import Example, Feedback, Interaction, Stamp
from schemas.interactions import ExampleSubmitted, InteractionRecorded
from schemas.topics import TOPICS
from tests.agents.recorder.delivery import Delivery
from tests.agents.recorder.facts import START, answer, failure, feedback, received
from tests.fixtures.sql import Stores, memory_stores
from tests.schemas.payloads import golden_events

FACTS = (
    answer(at=1, event_id="a1"),
    feedback("up", at=2, event_id="b1"),
    feedback("down", correction="60 days.", at=3, event_id="b2"),
    failure(at=4, event_id="f1", answer_id="q-2"),
)


def handler(table: FeatureTable) -> BatchHandler:
    return dispatcher("recorder", Recorder(table).handlers())


def delivery(stores: Stores) -> Delivery:
    return Delivery(handler(stores.features), stores.database, stores.journal)


def undisturbed() -> dict[str, Interaction]:
    questions: dict[str, Question] = {}
    for fact in FACTS:
        answer_id = fact.event.answer_id  # type: ignore[attr-defined]  # every one of FACTS has it
        questions[answer_id] = merge(questions.get(answer_id), fact, Rules())  # type: ignore[arg-type]  # as above
    return {answer_id: question.row for answer_id, question in questions.items()}


def table(stores: Stores) -> dict[str, Interaction]:
    return {row.answer_id: row for row in stores.features.recent(None, 100)}


def recorded(outputs: Sequence[Output]) -> list[tuple[str, str, int]]:
    found: list[tuple[str, str, int]] = []
    for output in outputs:
        assert isinstance(output.event, InteractionRecorded)
        found.append((output.event.answer_id, output.event.outcome, output.event.revision))
    return found


async def test_an_answer_becomes_a_row_and_a_fact_with_the_answers_own_time(stores):
    recorder = delivery(stores)
    await recorder.deliver(answer(at=1))
    assert recorder.published == [
        Output(
            event=InteractionRecorded(
                answer_id="q-1", task="support", adapter_id="lora-1", arm="challenger", outcome="unrated", revision=1
            ),
            time=answer(at=1).context.time,
        )
    ]
    assert stores.features.get("q-1") == merge(None, answer(at=1), Rules()).row  # type: ignore[arg-type]


async def test_an_event_that_comes_twice_counts_once(stores):
    recorder = delivery(stores)
    for _ in range(2):
        await recorder.deliver(answer(), feedback("up"), feedback("up"))
    assert recorded(recorder.published) == [("q-1", "unrated", 1), ("q-1", "approved", 2)]
    row = stores.features.get("q-1")
    assert row is not None
    assert row.revision == 2


async def test_feedback_before_the_answer_is_pending_and_then_joined(stores):
    recorder = delivery(stores)
    await recorder.deliver(feedback("down"))
    await recorder.deliver(answer())
    assert recorded(recorder.published) == [("q-1", "pending", 1), ("q-1", "disapproved", 2)]


async def test_feedback_for_an_answer_that_nobody_knows_is_kept(stores):
    await delivery(stores).deliver(feedback("up", answer_id="no such answer"))
    row = stores.features.get("no such answer")
    assert row is not None
    assert (row.outcome, row.task, row.rating) == ("pending", None, "up")


async def test_every_order_in_one_batch_or_two_ends_in_the_same_rows():
    for order in itertools.permutations(FACTS):
        for cut in range(len(order)):
            stores = memory_stores()
            recorder = delivery(stores)
            await recorder.deliver(*order[:cut])
            await recorder.deliver(*order[cut:])
            assert table(stores) == undisturbed()
            assert sorted(revision for _, _, revision in recorded(recorder.published)) == [1, 1, 2, 3]


@pytest.mark.parametrize("cut", range(len(FACTS)))
async def test_a_batch_cut_in_two_ends_in_the_same_rows_on_each_database(stores, cut):
    recorder = delivery(stores)
    await recorder.deliver(*reversed(FACTS[cut:]))
    await recorder.deliver(*reversed(FACTS[:cut]))
    assert table(stores) == undisturbed()


async def test_two_workers_that_record_facts_of_one_answer_at_once_lose_none(stores):
    facts = [answer(), *(feedback("up", at=n, event_id=f"b{n}") for n in range(23))]

    def record(mine: Sequence[Received[Event]]) -> None:
        async def deliver_each() -> None:
            for fact in mine:
                await delivery(stores).deliver(fact)

        asyncio.run(deliver_each())

    await asyncio.gather(asyncio.to_thread(record, facts[::2]), asyncio.to_thread(record, facts[1::2]))
    row = stores.features.get("q-1")
    assert row is not None
    assert (row.revision, row.outcome, row.last_event_at) == (24, "approved", facts[-1].context.time)


async def test_a_batch_that_failed_is_recorded_in_halves_with_what_others_wrote_meanwhile(stores):
    batch = [*FACTS[:2], FACTS[3]]
    outcomes = list(zip(batch, await handler(stores.features)(batch), strict=True))
    ours, other = delivery(stores), delivery(stores)

    def fail(number: int) -> None:
        if number == 2:
            raise RuntimeError("the third event spoils the batch")

    with pytest.raises(RuntimeError):
        ours.commit(outcomes, before_each=fail)
    assert table(stores) == {}
    ours.commit(outcomes[:1])
    await other.deliver(FACTS[2])
    ours.commit(outcomes[1:])
    assert table(stores) == undisturbed()
    assert recorded(ours.published) == [("q-1", "unrated", 1), ("q-1", "corrected", 3), ("q-2", "failed", 1)]


async def test_an_example_is_kept_once_under_an_id_of_its_own(stores):
    recorder = delivery(stores)
    submitted = ExampleSubmitted(task="routing", input="My card was swallowed", output="card_swallowed", origin="bank")
    mine, yours = received(submitted, event_id="1", source="/mine"), received(submitted, event_id="1", source="/yours")
    outcomes = await handler(stores.features)([mine])
    assert outcomes[0].effect is not None
    with stores.database.transaction():
        assert list(outcomes[0].effect()) == []
    await recorder.deliver(mine, yours)
    kept = stores.features.examples("routing", 10)
    assert len(kept) == len({each.example_id for each in kept}) == 2
    expected = Example(
        example_id=kept[0].example_id,
        task="routing",
        input="My card was swallowed",
        output="card_swallowed",
        origin="bank",
        submitted_at=START,
    )
    assert kept[0] == expected
    assert recorder.published == []


async def test_an_event_of_another_agent_is_refused():
    stray = received(InteractionRecorded(answer_id="q-1", outcome="pending", revision=1), event_id="x")
    with pytest.raises(InvalidEvent, match=r"does not read everlearn\.interaction\.recorded\.v1"):
        await handler(memory_stores().features)([stray])


class CountedReads:
    """A feature table that counts how often rows are read."""

    def __init__(self, stores: Stores) -> None:
        self.table = stores.features
        self.reads: list[list[str]] = []
        self.reads_of_words: list[list[str]] = []

    def transaction(self) -> object:
        return self.table.transaction()

    def interactions(self, answer_ids: Sequence[str]) -> dict[str, Interaction]:
        self.reads.append(list(answer_ids))
        return self.table.interactions(answer_ids)

    def put_interaction(self, row: Interaction) -> None:
        self.table.put_interaction(row)

    def feedback(self, answer_ids: Sequence[str]) -> dict[str, list[Feedback]]:
        self.reads_of_words.append(list(answer_ids))
        return self.table.feedback(answer_ids)

    def put_feedback(self, word: Feedback) -> None:
        self.table.put_feedback(word)

    def put_example(self, row: Example) -> None:
        self.table.put_example(row)


async def test_a_batch_reads_its_rows_once(stores):
    counted = CountedReads(stores)
    recorder = Delivery(handler(counted), stores.database, stores.journal)
    await recorder.deliver(*reversed(FACTS))
    assert counted.reads == [["q-1", "q-2"]]
    assert table(stores) == undisturbed()


def asked_by(fact: Received[Event], *, at: float, event_id: str, **differs: str | None) -> Received[Event]:
    """The fact about another question under the same id."""
    return received(fact.event.model_copy(update=differs), at=at, event_id=event_id)


@pytest.mark.parametrize(
    ("differs", "named"),
    [
        ({"tenant": "acme"}, "tenant"),
        ({"user": "eve"}, "user"),
        ({"user": None}, "user"),
        ({"task": "routing"}, "task"),
        ({"question": "How do I send these shoes back?"}, "text"),
        ({"tenant": "acme", "user": "eve"}, "tenant and user"),
    ],
)
async def test_an_answer_id_is_not_taken_over_by_another_question(stores, differs, named):
    recorder = delivery(stores)
    await recorder.deliver(answer(at=1), feedback("down", correction="60 days.", at=2))
    before = table(stores)
    with pytest.raises(InvalidEvent, match=f"the id 'q-1' belongs to another question, of another {named}: give"):
        await recorder.deliver(asked_by(answer(), at=3, event_id="a2", **differs))
    assert table(stores) == before
    # A failure says itself why there is no answer, so that it is no dead letter too.
    await recorder.deliver(asked_by(failure(), at=4, event_id="a3", **differs))
    assert table(stores) == before
    assert len(recorder.published) == 2


async def test_the_same_question_of_the_same_person_may_be_asked_again_under_its_id(stores):
    recorder = delivery(stores)
    await recorder.deliver(answer("30 days.", at=1))
    again = asked_by(
        answer("60 days."), at=3, event_id="a2", session="tomorrow", question=" How long may I return shoes? "
    )
    await recorder.deliver(again)
    await recorder.deliver(again)
    await recorder.deliver(failure(at=2, event_id="a3"))
    row = stores.features.get("q-1")
    assert row is not None
    assert (row.answer, row.revision) == ("60 days.", 3)


async def test_whoever_names_no_user_is_the_same_person_in_the_same_session(stores):
    recorder = delivery(stores)
    nobody = asked_by(answer(), at=1, event_id="a1", user=None, session="s1")
    await recorder.deliver(nobody, asked_by(nobody, at=2, event_id="a2"))
    with pytest.raises(InvalidEvent, match="another user"):
        await recorder.deliver(asked_by(nobody, at=3, event_id="a3", session="s2"))


async def test_words_are_read_only_where_there_may_be_some(stores):
    counted = CountedReads(stores)
    recorder = Delivery(handler(counted), stores.database, stores.journal)
    await recorder.deliver(answer(at=1))
    await recorder.deliver(feedback("up", at=2, event_id="b1"))
    await recorder.deliver(feedback("down", at=3, event_id="b2", user="eve"))
    await recorder.deliver(feedback("up", answer_id="q-2", event_id="b3"))
    await recorder.deliver(answer(answer_id="q-2", event_id="a2"))
    assert counted.reads_of_words == [[], [], ["q-1"], [], ["q-2"]]
    assert {each: len(words) for each, words in stores.features.feedback(["q-1", "q-2"]).items()} == {
        "q-1": 2,
        "q-2": 1,
    }


async def test_one_rater_too_many_leaves_the_words_as_they_are(stores):
    recorder = delivery(stores)
    await recorder.deliver(answer(at=1))
    stamp = Stamp(time=START, event="b")
    with stores.database.transaction():
        stores.features.interactions(["q-1"])
        stores.features.put_interaction(replace(stores.features.get("q-1"), revision=2))
        for number in range(MOST_RATERS):
            word = Feedback(answer_id="q-1", source="user", rater=f"u{number}", rating="down", rating_stamp=stamp)
            stores.features.put_feedback(word)

    await recorder.deliver(feedback("up", at=2, event_id="b1", user="eve"))
    assert len(stores.features.feedback(["q-1"])["q-1"]) == MOST_RATERS
    assert (table(stores)["q-1"].outcome, table(stores)["q-1"].revision) == ("disapproved", 3)

    await recorder.deliver(feedback("up", at=3, event_id="b2"))
    assert len(stores.features.feedback(["q-1"])["q-1"]) == MOST_RATERS + 1
    assert table(stores)["q-1"].rating_trust == "owner"


async def test_the_recorder_knows_every_event_of_the_topics_that_it_reads():
    mine: set[type[Event]] = {event for topic in TOPICS if "recorder" in topic.readers for event in topic.events}
    batch = [received(event, event_id=name) for name, event in golden_events().items() if type(event) in mine]
    assert {type(each.event) for each in batch} == mine
    assert len(await handler(memory_stores().features)(batch)) == len(batch)
