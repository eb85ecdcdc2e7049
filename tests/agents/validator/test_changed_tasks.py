"""The validator validates an adapter in service again when its task is another one: once for each state of the task."""

from __future__ import annotations

import pytest

from agents.delivery.outbox import Cause
from agents.validator.changed_tasks import ChangedTasks, to_validate
from infra.memory.registry import MemoryRegistry
from schemas.envelope import new_context
from schemas.errors import Unavailable
from schemas.learning import AdapterRejected, AdapterValidated
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryStarted
from schemas.registry import AdapterRecord
from schemas.tasks import TaskFingerprint, fingerprint_of
from tests.agents.validator.room import NOW, ROUTING
from tests.agents.validator.test_agent import Room, received

PRESENT = fingerprint_of(ROUTING, prompt_format=1, engine="e 1")
EARLIER = PRESENT.model_copy(update={"labels": ("orders", "billing")})
KNOWN = {"a1": EARLIER}
SERVES = AdapterPromoted(task="routing", sequence=3, champion="a1", fingerprints=KNOWN)
FELL = AdapterRolledBack(task="routing", sequence=4, fallen="a1", fingerprints=KNOWN)


class Fleet(Room):
    """A validator with its tick."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = MemoryRegistry()
        self.registry.register(
            AdapterRecord(
                adapter_id="a1", task="routing", base_model="memory", dataset_id="d1", run_id="t1", size_bytes=1,
                created_at=NOW,
            )
        )  # fmt: skip
        self.restart()

    def restart(self, present: TaskFingerprint = PRESENT) -> None:
        self.changed = ChangedTasks(
            fingerprints={"routing": present},
            releases=self.validator.releases,
            adapters=self.registry,
            runs=self.rig.runs,
            settings_location={"config": None},
        )

    async def follow(self, event):
        await self.validator.follow(received(event, "promotions.v1"))

    async def tick(self, times=1):
        for _ in range(times):
            context = new_context("/everlearn/validator/ticks", now=NOW)
            outcome = await self.changed.validate(NOW)
            await self.outbox.settle([Cause(identity=context.id, context=context)], [outcome], {})


@pytest.fixture
def room():
    return Fleet()


@pytest.mark.parametrize("release", [SERVES, FELL], ids=["kept", "fell back"])
async def test_the_adapter_is_validated_once_against_the_base_model(room, release):
    await room.follow(release)
    await room.tick(2)
    assert room.requested() == [
        {
            "config": None, "task": "routing", "adapter_id": "a1", "dataset_id": "d1", "champion": None,
            "changed_to": PRESENT.model_dump(mode="json"),
        }
    ]  # fmt: skip
    await room.end(accepted=False, reasons=["too bad"])
    room.restart()
    await room.tick(2)
    assert room.requested() == [], "the verdict stands, also at another worker"
    (said,) = room.said()
    assert isinstance(said, AdapterRejected)


async def test_the_verdict_names_the_task_that_it_holds_for(room):
    await room.follow(SERVES)
    await room.tick()
    await room.end(fingerprint=PRESENT.model_dump(mode="json"))
    (said,) = room.said()
    assert isinstance(said, AdapterValidated)
    assert said.fingerprint == PRESENT


async def test_the_next_change_is_validated_again(room):
    await room.follow(SERVES)
    await room.tick()
    await room.end(accepted=False, reasons=["too bad"])
    room.restart(PRESENT.model_copy(update={"labels": ("orders",)}))
    await room.tick(2)
    assert len(room.requested()) == 1


def test_what_fits_or_is_not_known_is_not_validated():
    fits = AdapterPromoted(task="routing", sequence=3, champion="a1", fingerprints={"a1": PRESENT})
    unknown = AdapterPromoted(task="routing", sequence=3, champion="a1")
    base = AdapterRolledBack(task="routing", sequence=4)
    tried = CanaryStarted(task="routing", sequence=3, challenger="a1", fingerprints=KNOWN)
    assert [to_validate(each, PRESENT) for each in (fits, unknown, base, tried)] == [None] * 4
    assert to_validate(SERVES, PRESENT) == "a1"


async def test_an_adapter_that_the_registry_does_not_know_is_left_alone(room):
    other = AdapterPromoted(task="routing", sequence=3, champion="a9", fingerprints={"a9": EARLIER})
    await room.follow(other)
    await room.tick(2)
    assert room.requested() == []


async def test_a_registry_that_is_away_is_asked_again(room):
    await room.follow(SERVES)
    room.registry.away = True
    with pytest.raises(Unavailable):
        await room.tick()
    room.registry.away = False
    await room.tick()
    assert len(room.requested()) == 1
