"""The contract of the feature table: rows come back exactly, and two workers never overwrite each other's facts."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier, Thread

import pytest

from schemas.features import Example, Feedback, Interaction, Stamp, TaskWindow
from schemas.interactions import InteractionOutcome
from schemas.questions import Turn
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, 0, 999999, tzinfo=UTC)
FULL = Interaction(
    answer_id="a1",
    revision=3,
    outcome="corrected",
    task="support",
    tenant="default",
    user="u'1",
    session="s1",
    question="Wie geht's? \x1b ☃ 𝛼",
    history=(Turn(role="user", text="ä\n"), Turn(role="assistant", text="☃")),
    answer="line\nline",
    failure="none",
    sources=({"document_id": "d1", "score": 0.1, "rank": 1}, {"document_id": "d2", "score": -1e-9, "rank": 2}),
    base_model="smollm2",
    engine="transformers",
    adapter_id="ad1",
    release_sequence=2**40,
    arm="champion",
    prompt_tokens=1,
    completion_tokens=0,
    latency_ms=12.345678901234567,
    finish_reason="stop",
    declined=True,
    answered_at=NOW,
    answer_stamp=Stamp(time=NOW, event="/e 1"),
    rating="down",
    rating_stamp=Stamp(time=NOW, event="/e 2"),
    rated_by="u2",
    rating_trust="reviewer",
    correction="",
    correction_stamp=Stamp(time=NOW, event="/e 3"),
    corrected_by="session:s1",
    correction_trust="other",
    reason="why",
    reason_stamp=Stamp(time=NOW, event="/e 4"),
    first_event_at=NOW,
    last_event_at=NOW,
)


def example(number: int, task: str = "routing") -> Example:
    return Example(
        example_id=f"e{number}",
        task=task,
        input="in",
        output="out",
        origin=None,
        submitted_at=NOW + timedelta(seconds=number),
    )


def test_the_sample_row_leaves_no_field_at_its_default():
    bare = Interaction(answer_id="a1")
    assert [each.name for each in fields(FULL) if getattr(FULL, each.name) == getattr(bare, each.name)] == ["answer_id"]


@pytest.mark.parametrize("row", [FULL, Interaction(answer_id="a1")], ids=["full", "bare"])
def test_a_row_comes_back_as_it_was_put(stores: Stores, row: Interaction):
    stores.features.put_interaction(row)

    assert stores.features.interactions(["a1", "unknown"]) == {"a1": row}
    assert stores.features.get("a1") == row
    assert stores.features.get("unknown") is None
    assert stores.features.interactions([]) == {}


def test_a_row_is_replaced_whole(stores: Stores):
    stores.features.put_interaction(FULL)
    stores.features.put_interaction(Interaction(answer_id="a1", revision=4))

    assert stores.features.get("a1") == Interaction(answer_id="a1", revision=4)


def test_a_transaction_sees_what_it_has_put(stores: Stores):
    with stores.database.transaction():
        stores.features.put_interaction(FULL)
        assert stores.features.interactions(["a1"]) == {"a1": FULL}
        assert stores.features.get("a1") == FULL
        stores.features.put_interaction(replace(FULL, revision=4))
        assert stores.features.interactions(["a1", "a2"]) == {"a1": replace(FULL, revision=4)}
        assert stores.features.recent("support", 5) == [replace(FULL, revision=4)]
        stores.features.put_interaction(replace(FULL, revision=5))
    assert stores.features.get("a1") == replace(FULL, revision=5)


def test_times_come_back_in_utc_and_a_time_without_zone_is_refused(stores: Stores):
    far_east = timezone(timedelta(hours=9))
    stamp = Stamp(time=NOW.astimezone(far_east), event="e")
    stores.features.put_interaction(replace(FULL, answered_at=NOW.astimezone(far_east), rating_stamp=stamp))

    row = stores.features.get("a1")
    assert row is not None
    assert row.answered_at is not None
    assert row.rating_stamp is not None
    assert (row.answered_at, row.answered_at.utcoffset()) == (NOW, timedelta(0))
    assert (row.rating_stamp.time, row.rating_stamp.time.utcoffset()) == (NOW, timedelta(0))
    with pytest.raises(Exception, match="names no time zone"):
        stores.features.put_interaction(replace(FULL, answered_at=NOW.replace(tzinfo=None)))


def test_recent_rows_are_of_the_task_newest_first(stores: Stores):
    for number in range(4):
        task = "support" if number % 2 else "routing"
        at = NOW + timedelta(seconds=number)
        stores.features.put_interaction(replace(FULL, answer_id=f"a{number}", task=task, last_event_at=at))

    assert [row.answer_id for row in stores.features.recent(None, 3)] == ["a3", "a2", "a1"]
    assert [row.answer_id for row in stores.features.recent("routing", 10)] == ["a2", "a0"]
    assert stores.features.recent("unknown", 10) == []


def test_rated_rows_are_those_that_say_what_is_right_as_they_arrived_newest_first(stores: Stores):
    outcomes: tuple[InteractionOutcome, ...] = ("approved", "corrected", "disapproved", "unrated", "approved")
    for number, outcome in enumerate(outcomes):
        at = NOW - timedelta(seconds=number)  # what arrives later may have happened earlier
        row = replace(FULL, answer_id=f"a{number}", task="routing", outcome=outcome, last_event_at=at)
        stores.features.put_interaction(row)
        if number == 0:
            moment = datetime.now(UTC)

    assert [row.answer_id for row in stores.features.rated("routing", 10)] == ["a4", "a1", "a0"]
    assert [row.answer_id for row in stores.features.rated("routing", 1)] == ["a4"]
    assert [row.answer_id for row in stores.features.rated("routing", 10, since=moment)] == ["a4", "a1"]
    assert stores.features.rated("routing", 10, since=datetime.now(UTC)) == []
    assert stores.features.rated("support", 10) == []


FULL_WORD = Feedback(
    answer_id="a1",
    source="reviewer",
    rater="u'1 ☃",
    rating="down",
    rating_stamp=Stamp(time=NOW, event="/e 1"),
    correction="",
    correction_stamp=Stamp(time=NOW, event="/e 2"),
    reason="why",
    reason_stamp=Stamp(time=NOW, event="/e 3"),
    retraction_stamp=Stamp(time=NOW, event="/e 4"),
)


def test_the_word_of_each_rater_comes_back_as_it_was_put(stores: Stores):
    bare = Feedback(answer_id="a1", source="user", rater="")
    assert [each.name for each in fields(bare) if getattr(bare, each.name) == getattr(FULL_WORD, each.name)] == [
        "answer_id"
    ]
    with stores.database.transaction():
        for word in (FULL_WORD, bare, replace(bare, source="application")):
            stores.features.put_interaction(Interaction(answer_id="a1"))
            stores.features.put_feedback(word)
        stores.features.put_interaction(Interaction(answer_id="a2"))
        assert stores.features.feedback(["a1"]) == {"a1": [replace(bare, source="application"), FULL_WORD, bare]}
    assert stores.features.feedback(["a1", "a2", "a3"]) == {
        "a1": [replace(bare, source="application"), FULL_WORD, bare]
    }
    assert stores.features.feedback([]) == {}


def test_a_word_replaces_the_same_raters_word_whole(stores: Stores):
    with stores.database.transaction():
        stores.features.put_interaction(Interaction(answer_id="a1"))
        stores.features.put_feedback(replace(FULL_WORD, rater="u2"))
        stores.features.put_feedback(FULL_WORD)
    later = Feedback(answer_id="a1", source="reviewer", rater=FULL_WORD.rater, reason="later")
    with stores.database.transaction():
        stores.features.put_feedback(later)
    assert stores.features.feedback(["a1"]) == {"a1": [later, replace(FULL_WORD, rater="u2")]}


def test_words_go_with_the_row_that_they_are_about(stores: Stores):
    old_rows(stores)
    with stores.database.transaction():
        for number in range(5):
            stores.features.put_feedback(replace(FULL_WORD, answer_id=f"a{number}"))
    assert stores.features.prune(NOW + timedelta(minutes=2)) == 2
    assert stores.features.prune_pending(NOW + timedelta(minutes=5)) == 1
    assert stores.features.feedback([f"a{number}" for number in range(5)]).keys() == {"a2", "a3"}


def test_an_example_written_twice_is_written_once(stores: Stores):
    for each in (example(1), example(2), example(2), example(3, task="support")):
        stores.features.put_example(each)

    assert stores.features.examples("routing", 10) == [example(2), example(1)]
    assert stores.features.examples("routing", 1) == [example(2)]
    assert stores.features.examples("routing", 10, since=datetime.now(UTC)) == []
    assert len(stores.features.examples("routing", 10, since=NOW)) == 2


def test_the_golden_set_is_read_apart_from_other_examples(stores: Stores):
    golden = replace(example(3), golden=True)
    for each in (example(1), golden):
        stores.features.put_example(each)

    assert stores.features.examples("routing", 10) == [example(1)]
    assert stores.features.examples("routing", 10, golden=True) == [golden]


def test_the_transaction_is_the_same_object_until_it_ends(stores: Stores):
    with stores.database.transaction():
        first = stores.features.transaction()
        stores.features.put_interaction(FULL)
        with stores.database.transaction():
            assert stores.features.transaction() is first
    with stores.database.transaction():
        assert stores.features.transaction() is not first
    assert stores.features.transaction() is not stores.features.transaction()


def test_two_workers_that_merge_into_a_row_that_does_not_exist_yet_lose_no_fact(stores: Stores):
    start = Barrier(2)

    def merge() -> None:
        start.wait()
        for number in range(20):
            answer_id = f"a{number}"
            with stores.database.transaction():
                row = stores.features.interactions([answer_id]).get(answer_id, Interaction(answer_id=answer_id))
                stores.features.put_interaction(replace(row, revision=row.revision + 1))

    workers = [Thread(target=merge) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    rows = stores.features.interactions([f"a{number}" for number in range(20)])
    assert {row.revision for row in rows.values()} == {2}
    assert len(rows) == 20


def old_rows(stores: Stores) -> None:
    """Five rows, a minute apart; the answer of ``a4`` has not come."""
    for number in range(4):
        at = NOW + timedelta(minutes=number)
        stamp = Stamp(time=at, event="e")
        stores.features.put_interaction(
            Interaction(answer_id=f"a{number}", task="routing", last_event_at=at, answered_at=at, answer_stamp=stamp)
        )
    stores.features.put_interaction(Interaction(answer_id="a4", last_event_at=NOW + timedelta(minutes=4)))


def left(stores: Stores) -> set[str]:
    return {row.answer_id for row in stores.features.recent(None, 10)}


def test_rows_go_by_the_time_of_their_last_event(stores: Stores):
    old_rows(stores)
    stores.features.put_interaction(Interaction(answer_id="rated late", last_event_at=NOW + timedelta(days=9)))
    assert stores.features.prune(NOW) == 0
    assert stores.features.prune(NOW + timedelta(minutes=2)) == 2
    assert left(stores) == {"a2", "a3", "a4", "rated late"}


def test_the_answers_of_a_window_stay_with_both_its_ends(stores: Stores):
    old_rows(stores)
    window = TaskWindow(task="routing", start=NOW + timedelta(minutes=1), end=NOW + timedelta(minutes=2))
    others = [replace(window, task="support", start=NOW, end=NOW + timedelta(days=1))]
    assert stores.features.prune(NOW + timedelta(days=1), [*others, window]) == 3
    assert left(stores) == {"a1", "a2"}


def test_only_feedback_without_an_answer_is_pending(stores: Stores):
    old_rows(stores)
    assert stores.features.prune_pending(NOW + timedelta(minutes=4)) == 0
    assert stores.features.prune_pending(NOW + timedelta(minutes=5)) == 1
    assert left(stores) == {"a0", "a1", "a2", "a3"}
