"""The tallies equal a count of the rows, whatever is delivered, how often, in which order and by how many workers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Table, func, insert, inspect, select

from agents.delivery.worker import dispatcher
from agents.recorder.agent import Recorder
from infra.memory.database import MemoryDatabase
from infra.memory.features import MemoryFeatureTable
from infra.memory.releases import MemoryReleases
from infra.sql import tables
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.migrate import _config, migrate
from infra.sql.releases import SqlReleases
from infra.sql.retention import SqlRetention
from infra.sql.runs import SqlRunStore
from schemas.datasets import DatasetRow
from schemas.envelope import Received
from schemas.event import Event
from schemas.features import Interaction
from schemas.interactions import FeedbackGiven, InteractionOutcome
from schemas.questions import AnswerFailed, AnswerProduced
from schemas.release_state import ArmCounts
from tests.agents.recorder.delivery import Delivery
from tests.agents.recorder.facts import received
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TASKS, SEQUENCES = ("routing", "support"), range(4)
ROW = Interaction(
    answer_id="a1",
    outcome="unrated",
    task="routing",
    arm="champion",
    release_sequence=2,
    user="u1",
    answered_at=NOW,
    last_event_at=NOW,
)
Releases = MemoryReleases | SqlReleases


def random_facts(dice: random.Random, answers: int) -> list[Received[Event]]:
    """Answers, failures, searches and feedback. Some questions are answered twice, by another release or arm."""
    facts: list[Event] = []
    for number in range(answers):
        task, user = dice.choice(TASKS), dice.choice((None, "u1", "u2", "u3"))
        for _ in range(dice.choice((1, 1, 1, 2))):
            shared: dict[str, Any] = {
                "answer_id": f"a{number}",
                "task": task,
                "question": "Where?",
                "user": user,
                "adapter_id": dice.choice((None, "x", "y")),
                "release_sequence": dice.choice(SEQUENCES),
                "arm": dice.choice(("champion", "challenger")),
            }
            if dice.random() < 0.2:
                facts.append(AnswerFailed(**shared, reason="too late"))
            else:
                reason = dice.choice(("stop", "stop", "retrieve_only"))
                facts.append(AnswerProduced(**shared, text="There.", finish_reason=reason))
        for _ in range(dice.choice((0, 1, 1, 3))):
            correction = dice.choice((None, None, "Here."))
            rating = dice.choice(("up", "down")) if correction is None else None
            given: dict[str, Any] = {"rating": rating, "correction": correction}
            if dice.random() < 0.2:
                given = {"retract": True}
            rater = dice.choice((None, "u1", "u2", "u3", "u4"))
            source = dice.choice((None, None, "user", "application", "reviewer"))
            facts.append(FeedbackGiven(answer_id=f"a{number}", user=rater, source=source, **given))
    return [received(fact, at=dice.random() * 100, event_id=f"e{number}") for number, fact in enumerate(facts)]


def releases_of(stores: Stores) -> Releases:
    if isinstance(stores.database, MemoryDatabase):
        return MemoryReleases(stores.database)
    assert isinstance(stores.database, Database)
    return SqlReleases(stores.database)


def counted(releases: Releases) -> list[ArmCounts]:
    return [rounded(each) for task in TASKS for each in releases.counts(task, sequence=0)]


def rounded(counts: ArmCounts) -> ArmCounts:
    """Parts of users are added up in any order."""
    return replace(counts, failed=round(counts.failed, 9), bad=round(counts.bad, 9))


def sums(stores: Stores, table: Table) -> list[tuple[Any, ...]]:
    """Adds up the tallies of each task, release and arm."""
    assert isinstance(stores.database, Database)
    keys = [table.c[name] for name in ("task", "release_sequence", "arm")]
    statement = select(*keys, *(func.sum(table.c[name]) for name in tables.TALLIED)).group_by(*keys).order_by(*keys)
    with stores.database.connection() as connection:
        return [tuple(row) for row in connection.execute(statement)]


def counted_anew(rows: Sequence[Interaction]) -> list[ArmCounts]:
    """What the rows themselves say: the memory twin counts them."""
    database = MemoryDatabase()
    for row in rows:
        MemoryFeatureTable(database).put_interaction(row)
    return counted(MemoryReleases(database))


def recorder(stores: Stores) -> Delivery:
    handlers = Recorder(stores.features).handlers()
    return Delivery(dispatcher("recorder", handlers), stores.database, stores.journal)


@pytest.mark.parametrize("seed", range(3))
async def test_facts_in_any_order_each_delivered_twice_leave_the_tallies_of_their_rows(stores: Stores, seed: int):
    dice = random.Random(seed)
    facts = random_facts(dice, 40) * 2
    dice.shuffle(facts)
    while facts:
        size = dice.randrange(1, 12)
        batch, facts = facts[:size], facts[size:]
        await recorder(stores).deliver(*batch)
    rows = stores.features.recent(None, 1000)
    assert len(rows) == 40
    assert counted(releases_of(stores)) == counted_anew(rows)
    if not isinstance(stores.database, MemoryDatabase):
        arms = sums(stores, tables.arm_tallies)
        assert [row for row in arms if any(row[3:])] == [
            row for row in sums(stores, tables.user_tallies) if any(row[3:])
        ]
        assert sum(row[3] for row in arms) == 40


async def test_several_workers_with_the_same_users_wait_for_each_other_without_a_deadlock(stores: Stores):
    facts = random_facts(random.Random(7), 60)

    def record(mine: Sequence[Received[Event]]) -> None:
        async def deliver_all() -> None:
            for start in range(0, len(mine), 15):
                await recorder(stores).deliver(*mine[start : start + 15])

        asyncio.run(deliver_all())

    some = [[fact for fact in facts if hash_of(fact) % 3 == worker] for worker in range(3)]
    await asyncio.gather(*(asyncio.to_thread(record, each) for each in (some[0], some[1][::-1], some[2])))
    assert counted(releases_of(stores)) == counted_anew(stores.features.recent(None, 1000))


def hash_of(fact: Received[Event]) -> int:
    return int(fact.event.answer_id.removeprefix("a"))  # type: ignore[attr-defined]  # every one of these facts has it


def test_a_failed_transaction_leaves_the_tallies_as_they_were(stores: Stores):
    stores.features.put_interaction(ROW)
    before = counted(releases_of(stores))

    def fail() -> None:
        with stores.database.transaction():
            stores.features.put_interaction(replace(ROW, outcome="corrected"))
            stores.features.put_interaction(replace(ROW, answer_id="a2"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert counted(releases_of(stores)) == before


def test_a_row_that_moves_to_another_release_leaves_nothing_behind(stores: Stores):
    stores.features.put_interaction(ROW)
    stores.features.put_interaction(
        replace(ROW, release_sequence=3, arm="challenger", outcome="disapproved", user="u2")
    )
    releases = releases_of(stores)
    assert releases.counts("routing", sequence=0) == [
        ArmCounts(sequence=3, arm="challenger", asked=1, failed=0, judged=1, bad=1)
    ]


def test_each_user_counts_once_by_the_part_of_their_answers(stores: Stores):
    outcomes: list[tuple[InteractionOutcome, str | None, str | None]] = [
        ("approved", "u1", "s1"),
        ("corrected", "u1", "s2"),
        ("failed", "u1", None),
        ("unrated", "u1", None),
        ("disapproved", None, "s1"),
        ("disapproved", None, None),
        ("approved", None, None),
        ("approved", None, None),
        ("unrated", "u2", None),
    ]
    for number, (outcome, user, session) in enumerate(outcomes):
        stores.features.put_interaction(
            replace(ROW, answer_id=f"a{number}", outcome=outcome, user=user, session=session)
        )
    [counts] = releases_of(stores).counts("routing", sequence=0)
    # u1, a session without a user, all who name neither, and u2, who rated nothing
    assert rounded(counts) == ArmCounts(
        sequence=2, arm="champion", asked=4, failed=0.25, judged=3, bad=round(1 / 2 + 1 + 1 / 3, 9)
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgres_url"))
    return f"sqlite:///{tmp_path}/everlearn.db"


def test_an_upgrade_fills_tallies_and_columns_from_the_rows_that_are_there(empty_url: str):
    migrate(empty_url)
    database = Database(empty_url)
    features, runs, suite = SqlFeatureTable(database), SqlRunStore(database), SqlRetention(database)
    dice = random.Random(1)
    for number in range(200):
        row = replace(
            ROW,
            answer_id=f"a{number}",
            outcome=dice.choice(("pending", "unrated", "approved", "disapproved", "corrected", "failed")),
            task=dice.choice((None, *TASKS)),
            arm=dice.choice((None, "champion", "challenger")),
            release_sequence=dice.choice((None, *SEQUENCES)),
            adapter_id=dice.choice((None, "x")),
            user=dice.choice((None, "u1", "u2")),
            finish_reason=dice.choice((None, "stop", "retrieve_only")),
            answered_at=dice.choice((None, NOW)),
        )
        features.put_interaction(row)
    runs.add("trainer", "r1", "train", {"task": "routing"}, {}, NOW)
    runs.add("indexer", "r2", "rebuild", {"other": 1}, {}, NOW)
    rows = [sample(number) for number in range(30)]
    suite.add("routing", rows, "d1", NOW)
    kept = {table: _content(database, table) for table in ("interactions", "runs", "retention_rows")}
    expected, tried = counted(SqlReleases(database)), _content(database, "arm_tallies")
    database.close()

    _at_version_3(empty_url, kept)
    migrate(empty_url)

    database = Database(empty_url)
    assert counted(SqlReleases(database)) == expected
    assert _summed(_content(database, "arm_tallies")) == _summed(tried)
    assert [run.run_id for run in SqlRunStore(database).of_task("trainer", "routing", 5)] == ["r1"]
    assert SqlRunStore(database).of_task("indexer", "routing", 5) == []
    assert SqlRetention(database).rows("routing", 7) == sorted(rows, key=lambda row: row.sampling_key)[:7]
    database.close()


def sample(number: int) -> DatasetRow:
    return DatasetRow(
        row_id=f"r{number}", input="in", output="out", origin="example", origin_id="e", at=NOW, split="holdout"
    )


def _content(database: Database, name: str) -> list[dict[str, Any]]:
    with database.connection() as connection:
        return [dict(row) for row in connection.execute(select(tables.METADATA.tables[name])).mappings()]


def _summed(rows: list[dict[str, Any]]) -> dict[tuple[object, ...], list[int]]:
    """Sums over the slots, which say nothing alone."""
    sums: dict[tuple[object, ...], list[int]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("task", "arm", "release_sequence", "adapter_id"))
        known = sums.get(key, [0] * len(tables.TALLIED))
        sums[key] = [one + row[name] for one, name in zip(known, tables.TALLIED, strict=True)]
    return {key: numbers for key, numbers in sums.items() if any(numbers)}


def _at_version_3(url: str, content: dict[str, list[dict[str, Any]]]) -> None:
    """Makes the database anew as version 3 of the schema had it, with this content."""
    database = Database(url)
    with database.connection(write=True) as connection:
        tables.METADATA.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for name, rows in content.items():
            table = tables.METADATA.tables[name]
            known = {column["name"] for column in inspect(connection).get_columns(name)}
            for row in rows:
                connection.execute(insert(table).values({key: row[key] for key in row.keys() & known}))
    database.close()


def test_the_tallies_of_old_releases_go_once_no_answer_of_theirs_is_left(migrated_url: str):
    database = Database(migrated_url)
    features, releases = SqlFeatureTable(database), SqlReleases(database)
    for sequence in (1, 2, 3):
        at = NOW + timedelta(days=sequence)
        row = Interaction(answer_id=f"a{sequence}", task="routing", arm="champion", release_sequence=sequence)
        features.put_interaction(replace(row, user="u", answered_at=at, last_event_at=at, outcome="approved"))
    assert releases.prune_tallies("routing", below=3) == 0
    assert features.prune(NOW + timedelta(days=4)) == 3
    assert len(releases.counts("routing", sequence=0)) == 3  # they say what happened, not what is stored
    assert releases.prune_tallies("support", below=9) == 0
    assert releases.prune_tallies("routing", below=3) == 4
    assert [each.sequence for each in releases.counts("routing", sequence=0)] == [3]
    database.close()
