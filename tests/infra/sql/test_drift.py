"""The contract of the store of drift checks, and which answers belong to a baseline."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from infra.memory.database import MemoryDatabase
from infra.memory.drift import MemoryAnswers, MemoryDriftChecks
from infra.sql.database import Database
from infra.sql.drift import SqlAnswers, SqlDriftChecks
from schemas.drift import Baseline, DriftCheck, Finding
from schemas.features import Interaction
from schemas.learning import Window
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, 0, 999999, tzinfo=UTC)
WINDOW = Window(start=NOW, end=NOW + timedelta(seconds=9), rows=60)
CHECK = DriftCheck(
    check_id="c1",
    task="routing",
    checked_at=NOW,
    baseline=2**40,
    reference=WINDOW,
    current=WINDOW,
    findings=(Finding(kind="outcomes", p_value=1.5e-9, effect=0.25, flagged=True, detail="☃ 12 %"),),
    verdict="outcomes",
    remedy="retrain",
    reasons=("one", "two"),
    report_uri="file:///r.html",
    figures={"rated": 4.0, "flags.outcomes": 2.0},
    told_at=NOW,
    told="retrain",
)
CHAMPION = Baseline(sequence=3, champion="new")


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def checks(stores: Stores) -> MemoryDriftChecks | SqlDriftChecks:
    if isinstance(stores.database, MemoryDatabase):
        return MemoryDriftChecks(stores.database)
    return SqlDriftChecks(cast(Database, stores.database))


@pytest.fixture
def answers(stores: Stores) -> MemoryAnswers | SqlAnswers:
    if isinstance(stores.database, MemoryDatabase):
        return MemoryAnswers(stores.database)
    return SqlAnswers(cast(Database, stores.database))


def put(stores: Stores, name: str, seconds: float | None, **fields: object) -> None:
    row = Interaction(
        answer_id=name,
        task="routing",
        arm="champion",
        adapter_id="new",
        release_sequence=3,
        finish_reason="stop",
        outcome="approved",
        answered_at=None if seconds is None else at(seconds),
    )
    stores.features.put_interaction(replace(row, **fields))  # type: ignore[arg-type]  # fields of a row


def names(rows: list[Interaction]) -> list[str]:
    return [row.answer_id for row in rows]


def test_a_check_comes_back_exactly_and_twice_is_once(checks):
    checks.add(CHECK)
    checks.add(replace(CHECK, verdict=None))
    assert checks.recent("routing", 5) == [CHECK]


def test_checks_are_listed_newest_first_of_a_task_or_of_all(checks):
    for number, task in enumerate(("routing", "support", "routing")):
        checks.add(replace(CHECK, check_id=f"c{number}", task=task, checked_at=at(number)))
    assert [check.check_id for check in checks.recent("routing", 5)] == ["c2", "c0"]
    assert [check.check_id for check in checks.recent(None, 2)] == ["c2", "c1"]
    assert checks.recent("other", 5) == []


def test_a_check_is_undone_with_its_transaction(stores: Stores, checks):
    def fail() -> None:
        with stores.database.transaction():
            checks.add(CHECK)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert checks.recent(None, 5) == []


def test_the_champions_answers_belong_to_it_and_its_own_from_before(stores: Stores, answers):
    put(stores, "canary", 1, arm="challenger", release_sequence=2)
    put(stores, "first", 2)
    put(stores, "failed", 3, failure="why", outcome="failed", finish_reason=None)
    put(stores, "advanced", 4, release_sequence=4)
    put(stores, "old", 1, adapter_id="old", release_sequence=2)
    put(stores, "next", 5, adapter_id="newer", arm="challenger", release_sequence=4)
    put(stores, "search", 6, finish_reason="retrieve_only")
    put(stores, "pending", None)
    put(stores, "elsewhere", 7, task="support")
    assert names(answers.rows("routing", CHAMPION, limit=9)) == ["canary", "first", "failed", "advanced"]
    assert answers.count("routing", CHAMPION, limit=9) == 4
    renewed = replace(CHAMPION, renewed=True)
    assert names(answers.rows("routing", renewed, limit=9)) == ["first", "failed", "advanced"]
    assert answers.count("routing", renewed, limit=9) == 3


def test_without_a_champion_what_the_base_model_answered_belongs(stores: Stores, answers):
    put(stores, "base", 1, adapter_id=None, release_sequence=0)
    put(stores, "canary", 2, arm="challenger", release_sequence=1)
    assert names(answers.rows("routing", Baseline(), limit=9)) == ["base"]


def test_the_first_or_the_newest_are_given_oldest_first(stores: Stores, answers):
    for number in (4, 2, 3, 1):
        put(stores, f"a{number}", number)
    assert names(answers.rows("routing", CHAMPION, limit=2)) == ["a1", "a2"]
    assert names(answers.rows("routing", CHAMPION, newest=True, limit=2)) == ["a3", "a4"]


def test_a_window_spans_trials_and_releases(stores: Stores, answers):
    put(stores, "trial 1", 1, arm="challenger", release_sequence=1)
    put(stores, "trial 2", 2, arm="challenger", release_sequence=2, outcome="unrated")
    put(stores, "trial 3", 3, arm="challenger", release_sequence=2)
    put(stores, "other", 3, arm="challenger", release_sequence=2, adapter_id="other")
    put(stores, "first", 4)
    put(stores, "next", 5, release_sequence=5)
    assert names(answers.rows("routing", CHAMPION, limit=2)) == ["trial 1", "trial 2"]
    assert names(answers.rows("routing", CHAMPION, limit=4)) == ["trial 1", "trial 2", "trial 3", "first"]
    assert names(answers.rows("routing", CHAMPION, newest=True, limit=2)) == ["first", "next"]
    assert names(answers.rows("routing", CHAMPION, newest=True, limit=4)) == ["trial 2", "trial 3", "first", "next"]
    assert answers.count("routing", CHAMPION, limit=9) == 5
    assert answers.count("routing", CHAMPION, limit=3) == 3
    assert answers.count("routing", CHAMPION, since=at(1.5), limit=9) == 4
    assert answers.count("routing", CHAMPION, since=at(1.5), rated=True, limit=9) == 3
    assert answers.count("routing", CHAMPION, since=at(0), rated=True, limit=3) == 3


def test_counts_end_at_their_limit_and_know_what_is_newer_and_what_is_rated(stores: Stores, answers):
    for number in range(6):
        put(stores, f"a{number}", number, outcome="unrated" if number % 2 else "corrected")
    assert answers.count("routing", CHAMPION, limit=4) == 4
    assert answers.count("routing", CHAMPION, since=at(3), limit=9) == 2
    assert answers.count("routing", CHAMPION, rated=True, limit=9) == 3
    assert answers.count("routing", CHAMPION, since=at(0), rated=True, limit=9) == 2


def test_the_last_release_of_another_champion_is_known_from_its_answers(stores: Stores, answers):
    assert answers.last_of_others("routing", "new", 9) is None
    put(stores, "base", 1, adapter_id=None, release_sequence=0)
    put(stores, "old", 2, adapter_id="old", release_sequence=2)
    put(stores, "new", 3)
    put(stores, "challenger", 4, adapter_id="newer", arm="challenger", release_sequence=4)
    put(stores, "lost", 5, adapter_id=None, release_sequence=0, failure="too late", outcome="failed")
    assert answers.last_of_others("routing", "new", 9) == 2
    assert answers.last_of_others("routing", "new", 1) == 0
    assert answers.last_of_others("routing", None, 9) == 3


def test_checks_are_found_by_their_ids(checks):
    checks.add(CHECK)
    checks.add(replace(CHECK, check_id="c2", verdict=None))
    assert checks.of(["c2", "c1", "unknown"]) == {"c1": CHECK, "c2": replace(CHECK, check_id="c2", verdict=None)}
    assert checks.of([]) == {}


def test_a_check_whose_report_was_deleted_names_none(checks):
    checks.add(CHECK)
    for _ in range(2):
        checks.forget_report("c1")
    checks.forget_report("unknown")
    assert checks.recent(None, 10) == [replace(CHECK, report_uri=None)]


def test_old_checks_go_but_never_the_newest_of_a_task(checks):
    for number in range(3):
        checks.add(replace(CHECK, check_id=f"r{number}", checked_at=at(number)))
    checks.add(replace(CHECK, check_id="other", task="support", checked_at=at(-1000)))
    assert checks.prune(at(1)) == 1
    assert {each.check_id for each in checks.recent(None, 10)} == {"r1", "r2", "other"}
    assert checks.prune(at(5000)) == 1
    assert {each.check_id for each in checks.recent(None, 10)} == {"r2", "other"}
