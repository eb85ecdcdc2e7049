"""The promoter on each database: what becomes of adapters whose task is no longer what they were validated on."""

from __future__ import annotations

import pytest

from schemas.policies import PromoterPolicy
from schemas.promotions import AdapterPromoted, AdapterRolledBack
from schemas.tasks import TaskFingerprint
from tests.agents.promoter.room import TASK, Room, experiment, good_stage, promotion, rollback, validated

OLD = TaskFingerprint(
    instruction="Which team?", labels=("billing", "returns"), prompt_format=1, engine="transformers 5.0"
)
NEW = OLD.model_copy(update={"labels": ("accounts", "returns")})
MORE = OLD.model_copy(update={"labels": ("billing", "returns", "skates")})
UPGRADED = OLD.model_copy(update={"prompt_format": 2, "engine": "transformers 5.1"})
KEEP = PromoterPolicy(shares=(0.2, 0.5), judged=10, watch_seconds=3600.0, task_changed="keep")


@pytest.fixture
def room(stores) -> Room:
    return Room(stores, tasks={TASK: OLD})


async def serve(room: Room, adapter: str = "a", fingerprint: TaskFingerprint | None = OLD) -> None:
    """Makes an adapter the champion, through its canary."""
    await room.deliver(validated(adapter, fingerprint=fingerprint))
    await good_stage(room)
    await good_stage(room)
    assert room.current().champion == adapter


async def test_an_adapter_whose_task_is_the_same_is_left_alone(room: Room):
    await serve(room)
    before = room.current()
    await room.follow_tasks()
    assert room.current() == before
    assert before.fingerprints == {"a": OLD}


async def test_a_champion_whose_label_is_gone_falls_back_to_the_base_model_once(room: Room):
    await serve(room)
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    await room.follow_tasks()

    release = room.current()
    assert (release.champion, release.challenger, release.fallen, release.sequence) == (None, None, "a", 4)
    assert release.reason == (
        "a was validated on another task (labels: from 2 with 'billing' to 2 with 'accounts'); "
        "the base model answers until an adapter is validated on the new one"
    )
    event = room.published()[-1]
    assert isinstance(event, AdapterRolledBack)
    assert (event.champion, event.fallen, event.fingerprints) == (None, "a", {"a": OLD})
    assert "a" in release.adapters, "its files are kept"


async def test_it_returns_when_its_task_comes_back_with_the_adapters_behind_it(room: Room):
    await serve(room, "a")
    await serve(room, "b")
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    room.tasks[TASK] = OLD
    await room.follow_tasks()

    release = room.current()
    assert (release.champion, release.previous, release.fallen) == ("b", "a", None)
    assert isinstance(room.published()[-1], AdapterPromoted)


async def test_it_has_a_canary_again_when_it_was_validated_on_the_new_task(room: Room):
    await serve(room)
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    await room.deliver(validated("a", fingerprint=NEW))
    release = room.current()
    assert (release.stage, release.challenger, release.fallen) == ("canary", "a", "a")
    assert release.fingerprints == {"a": NEW}
    await room.follow_tasks()
    await good_stage(room)
    await good_stage(room)
    assert room.current().champion == "a"
    await room.follow_tasks()
    assert room.current().champion == "a"


async def test_another_adapter_takes_the_place_of_the_one_that_fell(room: Room):
    await serve(room)
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    await serve(room, "b", NEW)
    assert (room.current().fallen, room.current().previous) == (None, None)
    room.tasks[TASK] = OLD
    await room.follow_tasks()
    assert (room.current().champion, room.current().fallen) == (None, "b")


async def test_the_policy_may_keep_the_champion_and_drift_begins_a_new_reference(room: Room):
    room.policy = KEEP
    room.begin_life()
    await serve(room)
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    await room.follow_tasks()
    release = room.current()
    assert (release.champion, release.renewed, release.sequence, release.served_as) == ("a", 4, 4, NEW)


@pytest.mark.parametrize("changed", [UPGRADED, MORE], ids=["upgrade", "one more label"])
async def test_an_upgrade_and_a_new_label_renew_the_release_without_falling_back(room: Room, changed: TaskFingerprint):
    await serve(room)
    room.tasks[TASK] = changed
    await room.follow_tasks()
    await room.follow_tasks()

    release = room.current()
    assert (release.champion, release.sequence, release.renewed, release.served_as) == ("a", 4, 4, changed)
    event = room.published()[-1]
    assert isinstance(event, AdapterPromoted)
    assert (event.champion, event.renewed) == ("a", 4)
    assert release.reason.startswith("the task has changed (")

    await room.deliver(validated("a", fingerprint=changed))
    await room.follow_tasks()
    assert (room.current().sequence, room.current().fingerprints) == (4, {"a": changed})

    room.tasks[TASK] = OLD  # and back again: the prompts are the earlier ones
    await room.follow_tasks()
    assert room.current().sequence == 5
    await serve(room, "b", OLD)
    assert (room.current().renewed, room.current().served_as) == (0, None)


async def test_a_canary_goes_on_over_an_upgrade_and_ends_when_its_label_is_gone(room: Room):
    await serve(room)
    await room.deliver(validated("b", fingerprint=OLD))
    room.tasks[TASK] = UPGRADED
    await room.follow_tasks()
    assert (room.current().challenger, room.current().sequence) == ("b", 4)
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    release = room.current()
    assert (release.champion, release.challenger, release.fallen) == (None, None, "a")


async def test_a_challenger_and_an_adapter_that_waits_go_where_the_base_model_is_the_champion(room: Room):
    await room.deliver(validated("b", fingerprint=OLD), validated("c", fingerprint=OLD))
    assert room.current().waiting == "c"
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    release = room.current()
    assert (release.champion, release.challenger, release.waiting, release.fallen) == (None, None, None, None)
    assert room.names() == ["CanaryStarted", "AdapterRolledBack"]


async def test_an_adapter_without_a_fingerprint_is_taken_for_the_task_as_it_is_found(room: Room):
    await serve(room, fingerprint=None)
    await room.follow_tasks()
    release = room.current()
    assert (release.champion, release.sequence) == ("a", 3)
    assert release.fingerprints == {"a": OLD.model_copy(update={"known": False})}
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    assert room.current().champion is None


async def test_what_was_validated_on_another_task_is_refused_with_what_to_do(room: Room):
    await serve(room)
    room.register("b")
    room.registry.judge("b", state="validated", scores={}, reasons=[], report_uri=None, validated_as=NEW)
    await room.deliver(validated("c", fingerprint=NEW), promotion("b"), experiment("b"))
    assert room.current().sequence == 3
    assert len(room.dead_letters()) == 3
    for message in room.dead_letters():
        assert (
            "was validated on another task routing than this promoter knows (labels: from 2 with 'accounts'" in message
        )
        assert "restart the agents, then run 'everlearn dlq retry'" in message


async def test_nothing_is_to_roll_back_while_the_base_model_answers_for_a_fallen_champion(room: Room):
    await serve(room)
    room.tasks[TASK] = NEW
    await room.follow_tasks()
    await room.deliver(rollback())
    assert "there is nothing to roll back" in room.dead_letters()[0]


async def test_a_task_that_is_not_configured_any_more_is_left_alone(room: Room):
    await serve(room)
    room.tasks.clear()
    await room.follow_tasks()
    assert room.current().champion == "a"
