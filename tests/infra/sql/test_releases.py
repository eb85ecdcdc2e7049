"""The contract of the store of releases: each sequence once and in order, and counts of how its answers turned out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier
from typing import Any

import pytest

from agents.promoter.ports import ReleaseStore
from schemas.errors import Unavailable
from schemas.features import Interaction
from schemas.interactions import InteractionOutcome
from schemas.questions import Arm
from schemas.release_state import ArmCounts, Release, ReleaseChange
from tests.agents.promoter.room import releases_of
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CANARY = Release(
    task="routing",
    sequence=1,
    challenger="a",
    stage="canary",
    share=0.1,
    salt="s",
    reason="“because”",
    since_sequence=1,
    since_at=NOW,
    waiting="b",
    changed_at=NOW,
)


@pytest.fixture
def releases(stores: Stores) -> ReleaseStore:
    return releases_of(stores.database)


def change(releases: ReleaseStore, release: Release, kind: str = "started") -> None:
    releases.change(release, event_type=kind, cause="e1", at=NOW)


def test_a_task_without_a_release_is_at_sequence_0(releases: ReleaseStore):
    assert releases.current("routing") == Release(task="routing")
    assert (releases.all(), releases.history("routing")) == ([], [])


def test_a_change_is_the_current_state_and_a_line_of_the_history(releases: ReleaseStore):
    change(releases, CANARY)
    ended = replace(CANARY, sequence=2, stage="steady", challenger=None, share=0.0, changed_at=NOW + timedelta(hours=1))
    change(releases, ended, "ended")
    change(releases, replace(CANARY, task="support"))
    assert releases.current("routing") == ended
    assert {each.task: each.sequence for each in releases.all()} == {"routing": 2, "support": 1}
    assert releases.history("routing") == [
        ReleaseChange(release=ended, event_type="ended", cause="e1", at=NOW),
        ReleaseChange(release=CANARY, event_type="started", cause="e1", at=NOW),
    ]
    assert releases.history("routing", 1) == releases.history("routing")[:1]


def test_times_come_back_as_the_same_moment(releases: ReleaseStore):
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    releases.change(replace(CANARY, changed_at=local), event_type="started", cause=None, at=local)
    assert releases.current("routing").changed_at == NOW
    [line] = releases.history("routing")
    assert (line.at, line.cause) == (NOW, None)


@pytest.mark.parametrize("sequence", [0, 1, 3])
def test_a_sequence_that_is_not_the_next_one_is_refused_and_leaves_nothing(releases: ReleaseStore, sequence: int):
    change(releases, CANARY)
    with pytest.raises(Unavailable, match="another process changed the release of routing"):
        change(releases, replace(CANARY, sequence=sequence, champion="x"))
    assert releases.current("routing") == CANARY
    assert len(releases.history("routing")) == 1


def test_a_note_about_the_state_raises_no_sequence(releases: ReleaseStore):
    change(releases, CANARY)
    releases.amend(replace(CANARY, waiting="c"))
    assert releases.current("routing") == replace(CANARY, waiting="c")
    assert releases.history("routing")[0].release == CANARY
    with pytest.raises(Unavailable, match="another process changed"):
        releases.amend(replace(CANARY, sequence=2))


def test_a_failed_transaction_changes_nothing(stores: Stores, releases: ReleaseStore):
    def fail() -> None:
        with stores.database.transaction():
            change(releases, CANARY)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (releases.all(), releases.history("routing")) == ([], [])


def test_whoever_reads_and_changes_in_a_transaction_is_not_overtaken(stores: Stores, releases: ReleaseStore):
    start = Barrier(3)

    def raise_ten_times(_worker: int) -> None:
        start.wait(30)
        for _ in range(10):
            with stores.database.transaction():
                current = releases.current("routing")
                change(releases, replace(current, sequence=current.sequence + 1))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(raise_ten_times, range(3)))
    assert releases.current("routing").sequence == 30
    assert [each.release.sequence for each in releases.history("routing")] == list(range(30, 0, -1))


def answered(users: int) -> dict[str, Any]:
    """Of users whose rows have no text and no latency."""
    return {"answered": users, "slowness": {0: users}, "length": {0: users}}


def test_answers_are_counted_by_release_and_arm(stores: Stores, releases: ReleaseStore):
    outcomes: tuple[InteractionOutcome, ...] = ("unrated", "approved", "disapproved", "corrected", "failed")
    rows: list[tuple[InteractionOutcome, Arm, int, str]] = [
        *((outcome, "challenger", 3, "routing") for outcome in outcomes),
        ("approved", "champion", 3, "routing"),
        ("approved", "champion", 4, "routing"),
        ("failed", "champion", 2, "routing"),
        ("failed", "champion", 3, "support"),
    ]
    for number, (outcome, arm, sequence, task) in enumerate(rows):
        row = Interaction(answer_id=f"a{number}", outcome=outcome, task=task, arm=arm, release_sequence=sequence)
        row = replace(row, user=f"u{number}")
        stores.features.put_interaction(replace(row, answered_at=NOW, last_event_at=NOW))
    stores.features.put_interaction(Interaction(answer_id="only rated", outcome="pending", last_event_at=NOW))

    assert releases.counts("routing", sequence=3) == [
        ArmCounts(sequence=3, arm="challenger", asked=5, failed=1, judged=3, bad=2, **answered(4)),
        ArmCounts(sequence=3, arm="champion", asked=1, failed=0, judged=1, bad=0, **answered(1)),
        ArmCounts(sequence=4, arm="champion", asked=1, failed=0, judged=1, bad=0, **answered(1)),
    ]
    assert releases.counts("unknown", sequence=0) == []


def test_old_lines_of_a_history_go_below_a_sequence_and_before_a_time(releases):
    for sequence in range(1, 5):
        at = NOW + timedelta(days=sequence)
        releases.change(replace(CANARY, sequence=sequence, changed_at=at), event_type="e", cause=None, at=at)
    change(releases, replace(CANARY, task="support"))
    assert releases.prune_history("routing", below=3, before=NOW + timedelta(days=9)) == 2
    assert releases.prune_history("routing", below=9, before=NOW + timedelta(days=4)) == 1
    assert [each.release.sequence for each in releases.history("routing")] == [4]
    assert len(releases.history("support")) == 1


def test_the_earlier_champions_are_stored_and_a_state_without_them_is_read(releases):
    change(releases, replace(CANARY, earlier=("a", None)))
    assert releases.current("routing").earlier == ("a", None)
    change(releases, replace(CANARY, task="support"))
    assert releases.current("support").earlier is None
