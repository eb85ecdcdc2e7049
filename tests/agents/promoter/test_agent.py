"""The promoter on each database: how validated adapters, ratings and requests change a release."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.event import Event
from schemas.learning import AdapterRejected, DriftCheckRequested, TrainingRequested
from schemas.topics import TOPICS
from tests.agents.promoter.room import START, Room, experiment, good_stage, promotion, rollback, validated
from tests.fixtures.sql import memory_stores
from tests.schemas.payloads import golden_events


@pytest.fixture
def room(stores) -> Room:
    return Room(stores)


async def test_a_validated_adapter_goes_through_its_shares_and_is_promoted(room: Room):
    await room.deliver(validated("a"))
    started = room.current()
    assert (started.sequence, started.challenger, started.stage, started.share) == (1, "a", "canary", 0.2)
    assert started.champion is None
    await good_stage(room)
    advanced = room.current()
    assert (advanced.sequence, advanced.share, advanced.salt) == (2, 0.5, started.salt)
    await good_stage(room)
    promoted = room.current()
    assert (promoted.sequence, promoted.champion, promoted.previous, promoted.challenger) == (3, "a", None, None)
    assert (promoted.stage, promoted.share, promoted.salt) == ("steady", 0.0, "")
    assert room.names() == ["CanaryStarted", "CanaryAdvanced", "AdapterPromoted"]
    assert "0 of 60 (0%) users' ratings were bad, 0 of 60 (0%) of the champion's" in promoted.reason


async def test_each_event_carries_the_whole_state_its_cause_and_its_time(room: Room):
    [message] = await room.deliver(validated("a"))
    room.now += timedelta(minutes=1)
    await good_stage(room)
    newest, first = room.releases.history("routing")
    assert first.cause == "/tests " + dict(message.headers)["ce_id"].decode()
    assert (first.at, newest.at) == (START, START + timedelta(minutes=1))
    for event, line in zip(room.published(), (first, newest), strict=True):
        assert {name: getattr(line.release, name) for name in type(event).model_fields} == dict(event)


async def test_a_rejected_adapter_and_other_peoples_requests_change_nothing(room: Room):
    await room.deliver(
        AdapterRejected(task="routing", adapter_id="a", reasons=("worse",)),
        TrainingRequested(task="routing"),
        DriftCheckRequested(task="routing"),
    )
    assert (room.current().sequence, room.published(), room.dead_letters()) == (0, [], [])
    assert room.logged == ["adapter was rejected"]


async def test_a_bad_challenger_is_taken_back_early_and_never_taken_up_again(room: Room):
    await room.deliver(validated("a"))
    room.answer("champion", "approved", 30)
    await room.deliver(room.answer("challenger", "corrected", 6))
    taken = room.current()
    assert (taken.sequence, taken.champion, taken.challenger, taken.stage) == (2, None, None, "steady")
    assert taken.reason.startswith("6 of 6 (100%) users' ratings were bad, 0 of 30 (0%) of the champion's: worse with")
    await room.deliver(validated("a"))
    assert room.names() == ["CanaryStarted", "AdapterRolledBack"]


async def test_answers_that_fail_take_a_challenger_back(room: Room):
    await room.deliver(validated("a"))
    room.answer("champion", "unrated", 30)
    await room.deliver(room.answer("challenger", "failed", 6))
    assert room.current().reason.startswith("6 of 6 (100%) users' answers failed")


async def test_what_was_answered_before_the_canary_does_not_count(room: Room):
    room.answer("champion", "approved", 50, sequence=0)
    await room.deliver(validated("a"))
    await room.deliver(room.answer("challenger", "approved", 30))
    assert room.current().share == 0.2
    await room.deliver(room.answer("champion", "approved", 30))
    assert room.current().share == 0.5


async def test_a_canary_that_nobody_rates_holds_and_says_so(room: Room):
    await room.deliver(validated("a"))
    await room.deliver(room.answer("challenger", "unrated", 40))
    room.now += timedelta(seconds=3599)
    await room.evaluate()
    assert room.current().held == ""
    for _ in range(2):
        room.now += timedelta(seconds=1)
        await room.evaluate()
    held = room.current()
    assert (held.stage, held.challenger, held.share, held.sequence) == ("canary", "a", 0.2, 1)
    assert held.held.startswith("holds at 20% of the users after 3,600 s: 0 users of the challenger have rated")
    assert room.names() == ["CanaryStarted"]
    assert room.logged.count("canary holds") == 1
    await good_stage(room)
    assert (room.current().share, room.current().held) == (0.5, "")


async def test_a_newer_adapter_takes_the_place_of_a_canary_that_holds(room: Room):
    await room.deliver(validated("a"))
    room.now += timedelta(seconds=3600)
    await room.evaluate()
    await room.deliver(validated("b"))
    state = room.current()
    assert (state.challenger, state.stage, state.waiting, state.held) == ("b", "canary", None, "")
    assert "it takes the place of a, which holds at 20% of the users" in state.reason


async def test_an_adapter_that_waits_takes_the_place_of_a_canary_when_that_begins_to_hold(room: Room):
    await room.deliver(validated("a"))
    await room.deliver(validated("b"))
    assert (room.current().challenger, room.current().waiting) == ("a", "b")
    room.now += timedelta(seconds=3600)
    await room.evaluate()
    assert (room.current().challenger, room.current().waiting, room.current().sequence) == ("b", None, 2)


async def test_one_person_counts_once_however_often_they_rate(room: Room):
    await room.deliver(validated("a"))
    room.answer("champion", "approved", 30)
    await room.deliver(room.answer("challenger", "approved", 60, user="a friend"))
    assert room.current().share == 0.2
    await room.deliver(room.answer("challenger", "disapproved", 60, user="an enemy"))
    assert (room.current().stage, room.current().challenger) == ("canary", "a")


async def test_an_adapter_validated_during_a_canary_waits_for_its_end_and_the_newest_one_wins(room: Room):
    await room.deliver(validated("a"))
    await room.deliver(validated("b"))
    await room.deliver(validated("c"))
    assert (room.current().sequence, room.current().challenger, room.current().waiting) == (1, "a", "c")
    await good_stage(room)
    await good_stage(room)
    after = room.current()
    assert room.names() == ["CanaryStarted", "CanaryAdvanced", "AdapterPromoted", "CanaryStarted"]
    assert (after.sequence, after.champion, after.challenger, after.waiting) == (4, "a", "c", None)
    await room.deliver(rollback())
    assert (room.current().champion, room.current().stage) == ("a", "steady")


async def test_a_new_champion_that_turns_out_worse_in_front_of_everybody_is_taken_back(room: Room):
    await room.deliver(validated("a"))
    await good_stage(room)
    await good_stage(room)
    await room.deliver(room.answer("champion", "disapproved", 9))
    back = room.current()
    assert (back.sequence, back.champion, back.previous, back.stage) == (4, None, None, "steady")
    assert back.reason.startswith("since it was promoted 9 of 9 (100%) users' ratings were bad, 0 of 60 (0%)")
    assert room.names()[-1] == "AdapterRolledBack"


async def test_a_new_champion_is_watched_for_a_while_only(room: Room):
    await room.deliver(validated("a"))
    await good_stage(room)
    await good_stage(room)
    await room.deliver(room.answer("champion", "approved", 20))
    await room.deliver(room.answer("champion", "disapproved", 100))
    assert (room.current().sequence, room.current().champion) == (3, "a")


async def test_promotion_by_hand_is_immediate_and_ends_a_canary(room: Room):
    room.register("a", "b")
    await room.deliver(validated("a"))
    await room.deliver(promotion("b", reason="I know it"))
    state = room.current()
    assert (state.champion, state.previous, state.challenger, state.stage, state.reason) == (
        "b",
        None,
        None,
        "steady",
        "I know it",
    )
    await room.deliver(promotion("b"))
    assert room.names() == ["CanaryStarted", "AdapterPromoted"]
    assert room.dead_letters() == []


async def test_an_adapter_that_the_registry_did_not_validate_is_not_promoted(room: Room):
    room.register("bad", state="rejected")
    room.register("new", state="trained")
    room.register("other", task="support")
    for event in (promotion("bad"), promotion("new"), promotion("other"), promotion("none"), experiment("bad")):
        await room.deliver(event)
    assert room.dead_letters() == [
        "bad was rejected (too bad): promote another adapter",
        "new is not validated yet: ask again when it is",
        "the registry knows no adapter other of routing: see 'everlearn adapters list'",
        "the registry knows no adapter none of routing: see 'everlearn adapters list'",
        "bad was rejected (too bad): promote another adapter",
    ]
    assert room.current().sequence == 0


async def test_rollbacks_return_to_one_champion_after_the_other_down_to_the_base_model(room: Room):
    room.register("a", "b")
    for event in (promotion("a"), promotion("b"), promotion("a")):
        await room.deliver(event)
    champions = []
    for _ in range(3):
        await room.deliver(rollback())
        champions.append((room.current().champion, room.current().previous))
    assert champions == [("b", "a"), ("a", None), (None, None)]
    await room.deliver(rollback())
    assert room.dead_letters() == ["there is nothing to roll back: routing is served by the base model alone"]
    assert room.current().sequence == 6


async def test_two_rollbacks_that_mean_the_same_adapter_go_back_once(room: Room):
    room.register("a", "b")
    for event in (promotion("a"), promotion("b")):
        await room.deliver(event)
    await room.deliver(rollback(adapter_id="b"), rollback(adapter_id="b"))
    assert (room.current().champion, room.current().sequence) == ("a", 3)
    assert room.dead_letters() == [
        "b of routing is not what a rollback would take back, a is; last of it: sequence 3: it was rolled back to a "
        "(asked for by hand)"
    ]


async def test_a_rollback_after_an_automatic_one_leaves_the_champion(room: Room):
    room.register("a")
    await room.deliver(promotion("a"))
    await room.deliver(validated("b"))
    room.answer("champion", "approved", 30)
    await room.deliver(room.answer("challenger", "corrected", 6))
    await room.deliver(rollback(adapter_id="b"))
    assert room.current().champion == "a"
    [letter] = room.dead_letters()
    assert letter.startswith(
        "b of routing is not what a rollback would take back, a is; last of it: sequence 3: it was"
    )
    await room.deliver(rollback(adapter_id="never"))
    assert room.dead_letters()[1].endswith("the history names no release of it")
    await room.deliver(rollback(adapter_id="a"))
    assert room.current().champion is None


async def test_a_rollback_of_a_canary_holds_while_its_share_grows_and_when_it_was_promoted(room: Room):
    await room.deliver(validated("a"))
    await good_stage(room)
    assert (room.current().challenger, room.current().share) == ("a", 0.5)
    await room.deliver(rollback(adapter_id="a"))
    assert (room.current().stage, room.current().champion) == ("steady", None)
    await room.deliver(validated("b"))
    await good_stage(room)
    await good_stage(room)
    assert room.current().champion == "b"
    await room.deliver(rollback(adapter_id="b"))
    assert (room.current().champion, room.dead_letters()) == (None, [])


async def test_requests_that_name_an_older_release_are_refused_with_what_has_happened_since(room: Room):
    room.register("a", "b")
    await room.deliver(promotion("a", sequence=0))
    for event in (
        promotion("b", sequence=0),
        experiment("b", sequence=0),
        rollback(sequence=0),
        promotion("b", sequence=7),
    ):
        await room.deliver(event)
    stale = (
        "the release of routing has changed since sequence 0, which the request names: sequence 1: a was promoted "
        "(asked for by hand); look at it and ask again"
    )
    newer = "the request names release 7 of routing, and 1 is the newest: see 'everlearn status'"
    assert room.dead_letters() == [stale, stale, stale, newer]
    await room.deliver(promotion("a", sequence=0))  # what it asks for is so already
    assert (room.current().sequence, len(room.dead_letters())) == (1, 4)
    await room.deliver(promotion("b", sequence=1))
    assert room.current().champion == "b"


async def test_an_impossible_request_does_not_spoil_its_batch(room: Room):
    room.register("a")
    await room.deliver(rollback(), validated("a", task="support"), promotion("none"), promotion("a"))
    assert (room.current().champion, room.current("support").challenger) == ("a", "a")
    assert len(room.dead_letters()) == 2


async def test_an_experiment_replaces_a_canary_and_ends_after_one_stage(room: Room):
    room.register("b")
    await room.deliver(validated("a"))
    await room.deliver(experiment("b", share=0.3))
    state = room.current()
    assert (state.stage, state.challenger, state.share, state.since_sequence) == ("experiment", "b", 0.3, 2)
    assert state.reason.endswith("it ends the canary of a")
    await good_stage(room)
    assert (room.current().champion, room.current().stage) == ("b", "steady")
    await room.deliver(experiment("b"))
    assert room.dead_letters() == ["b is the champion of routing already: compare it with another adapter"]


async def test_tasks_are_judged_apart_and_once_a_batch(room: Room):
    await room.deliver(validated("a"), validated("b", task="support"))
    for task in ("routing", "support"):
        room.answer("champion", "approved", 30, task=task)
    last = [room.answer("challenger", "approved", 30, task=task) for task in ("routing", "support")]
    await room.deliver(*last, *last)
    assert [room.current(task).share for task in ("routing", "support")] == [0.5, 0.5]
    assert sorted(room.names()) == ["CanaryAdvanced"] * 2 + ["CanaryStarted"] * 2


async def test_interactions_without_a_task_or_a_release_are_nothing(room: Room):
    recorded = room.answer("champion", "approved", sequence=0)
    await room.deliver(recorded, recorded.model_copy(update={"task": None}))
    assert (room.published(), room.dead_letters()) == ([], [])


async def test_the_promoter_knows_every_event_of_the_topics_that_it_reads():
    mine: set[type[Event]] = {event for topic in TOPICS if "promoter" in topic.readers for event in topic.events}
    room = Room(memory_stores())
    events = [event for event in golden_events().values() if type(event) in mine]
    assert {type(each) for each in events} == mine
    for event in events:
        await room.deliver(event)
    assert all("does not read" not in letter for letter in room.dead_letters())
