"""Labels are changed under a champion: what users get, what status says, and what a validation makes of it.

Promoter, validator and answerer on memory twins. Each is built anew with the new task, as by a restart.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from agents.promoter.changed_tasks import notes
from infra.memory.registry import MemoryRegistry
from schemas.envelope import Position, Received, decode
from schemas.event import Event
from schemas.learning import AdapterRejected, AdapterValidated
from schemas.tasks import Task, TaskFingerprint, fingerprint_of
from tests.agents.answerer.room import Room as AnsweringRoom
from tests.agents.answerer.room import question
from tests.agents.promoter.room import Room as PromoterRoom
from tests.agents.promoter.room import bad_stage, good_stage
from tests.agents.promoter.room import validated as validated_event
from tests.agents.validator.test_changed_tasks import Fleet
from tests.fixtures.sql import memory_stores

TABLE = """
[tasks.routing] # the teams of the shop
instruction = "Which team answers this?"
metric = "exact_match"
labels = ["billing", "returns"]
"""


def task_of(table: str) -> Task:
    return Task(name="routing", **tomllib.loads(table)["tasks"]["routing"])


class Home:
    """The three agents, with one task."""

    def __init__(self, folder: Path) -> None:
        self.promoter = PromoterRoom(memory_stores())
        self.validator = Fleet()
        self.answering = AnsweringRoom(folder)
        self.answering.train("a1")
        self.validator.registry = MemoryRegistry()
        self._followed = 0
        self.task = task_of(TABLE)

    async def configure(self, table: str) -> None:
        """Restarts all agents with a task, and lets them do what they do by themselves."""
        self.task = task_of(table)
        present = self.fingerprint
        self.promoter.tasks["routing"] = present
        self.promoter.begin_life()
        self.validator.restart(present)
        adapters, engine, folder = self.answering.adapters, self.answering.engine, self.answering.folder
        self.answering = AnsweringRoom(
            folder, engine, {"routing": self.task}, fingerprints={"routing": present}
        )  # the twin keeps its loaded adapters, as an engine of a new process would load them again
        self.answering.adapters.folders.update(adapters.folders)
        self.answering.adapters.probed.update(adapters.probed)
        self._followed = 0
        await self.settle()

    @property
    def fingerprint(self) -> TaskFingerprint:
        return fingerprint_of(self.task, prompt_format=1, engine="memory")

    async def settle(self) -> None:
        await self.promoter.follow_tasks()
        await self.promoter.follow_tasks()
        records = self.promoter.kafka.topic("promotions.v1")
        for offset, record in list(enumerate(records))[self._followed :]:
            event, context = decode(record.topic, record.value, record.headers, now=self.promoter.now)
            received: Received[Event] = Received(
                event=event, context=context, position=Position(record.topic, 0, offset)
            )
            await self.answering.answerer.follow(received)
            await self.validator.follow(event)
        self._followed = len(records)
        await self.validator.tick()

    async def champion(self) -> None:
        """Trains an adapter, which becomes the champion."""
        self.promoter.register("a1")
        self.validator.registry = self.promoter.registry
        self.validator.restart(self.fingerprint)
        await self.promoter.deliver(validated_event("a1", fingerprint=self.fingerprint))
        await good_stage(self.promoter)
        await good_stage(self.promoter)
        await self.settle()

    async def verdict(self, *, accepted: bool) -> None:
        """Ends the validation that is under way, and brings its event to the promoter."""
        await self.validator.end(
            accepted=accepted, reasons=[] if accepted else ["not better than the base model"],
            fingerprint=self.fingerprint.model_dump(mode="json"),
        )  # fmt: skip
        said = self.validator.said()[-1]
        assert isinstance(said, AdapterValidated if accepted else AdapterRejected)
        await self.promoter.deliver(said)
        await self.settle()

    async def answered_by(self) -> set[str | None]:
        answers = await self.answering.ask(
            *(question("Where is my refund?", "routing", user=f"u{number}") for number in range(20))
        )
        return {answer.adapter_id for answer in answers}

    def status(self) -> list[str]:
        return notes(self.promoter.current("routing"), self.fingerprint)


@pytest.fixture
async def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    await home.configure(TABLE)
    await home.champion()
    assert await home.answered_by() == {"a1"}
    assert home.status() == []
    return home


REPLACED = TABLE.replace('"billing"', '"accounts"')


async def test_no_old_label_is_answered_after_labels_are_replaced_and_a_failed_validation_keeps_it_so(home: Home):
    await home.configure(REPLACED)

    assert await home.answered_by() == {None}, "the base model answers"
    assert home.status() == [
        "the base model answers, because a1 was validated on another task "
        "(labels: from 2 with 'billing' to 2 with 'accounts')"
    ]
    assert [run["adapter_id"] for run in home.validator.requested()] == ["a1"]

    await home.verdict(accepted=False)

    assert await home.answered_by() == {None}
    assert home.validator.requested() == []
    assert len(home.status()) == 1


async def test_a_validation_on_the_new_task_brings_it_back_through_a_canary(home: Home):
    await home.configure(REPLACED)
    await home.verdict(accepted=True)
    assert await home.answered_by() == {None, "a1"}
    await good_stage(home.promoter)
    await good_stage(home.promoter)
    await home.settle()
    assert await home.answered_by() == {"a1"}
    assert home.status() == []


async def test_labels_that_come_back_bring_the_champion_back(home: Home):
    await home.configure(REPLACED)
    await home.configure(TABLE)
    assert await home.answered_by() == {"a1"}
    assert home.status() == []


async def test_labels_that_come_back_during_its_canary_have_it_validated_again(home: Home):
    await home.configure(REPLACED)
    await home.verdict(accepted=True)
    assert await home.answered_by() == {None, "a1"}

    await home.configure(TABLE)

    assert await home.answered_by() == {None}, "it was last validated on the other labels"
    assert [run["adapter_id"] for run in home.validator.requested()] == ["a1"]
    await home.verdict(accepted=True)
    assert await home.answered_by() == {None, "a1"}
    assert home.status() == []


async def test_one_that_its_canary_found_worse_does_not_return_by_itself(home: Home):
    await home.configure(REPLACED)
    await home.verdict(accepted=True)
    await bad_stage(home.promoter)
    await home.settle()
    assert await home.answered_by() == {None}

    await home.configure(REPLACED)

    assert await home.answered_by() == {None}
    assert home.validator.requested() == []


@pytest.mark.parametrize(
    "table",
    [
        TABLE.replace("the teams of the shop", "the teams, of the shop, since May"),
        TABLE.replace("Which team answers", "Which  team\\n answers"),
        TABLE + "max_tokens = 12\n",
    ],
    ids=["comment", "white space", "another setting"],
)
async def test_what_changes_no_prompt_changes_nothing(home: Home, table: str):
    before = home.promoter.current("routing")
    await home.configure(table)
    assert await home.answered_by() == {"a1"}
    assert home.status() == []
    assert home.promoter.current("routing") == before
    assert home.validator.requested() == []


async def test_one_more_label_is_validated_while_the_champion_answers(home: Home):
    await home.configure(TABLE.replace('"billing"', '"billing", "skates"'))
    assert await home.answered_by() == {"a1"}
    assert home.status() == ["a1 was validated on another task (labels: from 2 without 'skates' to 3 with 'skates')"]
    (serves,) = home.answering.answerer.serves()
    assert serves.differs == ("a1: labels: from 2 without 'skates' to 3 with 'skates'",)
    assert [run["adapter_id"] for run in home.validator.requested()] == ["a1"]
    await home.verdict(accepted=True)
    assert home.status() == []
    assert await home.answered_by() == {"a1"}
