"""Compares the cost of an event after a short history with its cost after a long one.

``python -m benchmarks.history [--rows SMALL BIG] [--repeats N] [--folder F] [--url URL]`` fills two databases with
synthetic rows of the feature table, and then measures in turn, on each: recording a batch of 50 facts, the reading of a
drift check, and a promoter's decision. SQLite files are made in a temporary folder. ``--url`` names a database of a
PostgreSQL server, on which two further databases are made for the time of the run.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import create_engine, make_url, text

from agents.monitor.controller import CheckController
from agents.promoter.controller import ReleaseController
from agents.recorder.agent import Recorder
from infra.sql.database import Database
from infra.sql.drift import SqlAnswers, SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from infra.sql.journal import SqlJournal
from infra.sql.migrate import migrate
from infra.sql.releases import SqlReleases
from infra.sql.runs import SqlRunStore
from infra.sql.tables import TALLIED
from schemas.drift import Baseline, DriftCheck
from schemas.envelope import EventContext, Position, Received
from schemas.interactions import FeedbackGiven
from schemas.learning import Window
from schemas.policies import MonitorPolicy, PromoterPolicy
from schemas.promotions import AdapterPromoted
from schemas.questions import AnswerFailed, AnswerProduced
from schemas.release_state import Release

START = datetime(2026, 1, 1, tzinfo=UTC)
TASK = "routing"
USERS = 20_000
RELEASE_ROWS = 5_000
BATCH = 50
PORTION = 200_000
WARM_UP = 20

_NUMBERS = {
    "sqlite": "(WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
    "SELECT n FROM numbers) AS numbers",
    "postgresql": "generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS numbers(n)",
}
_MOMENT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', '2026-01-01', n || ' seconds') || '.000000'",
    "postgresql": "timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second'",
}
_NAME = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "md5(CAST(n AS text))"}
# ``h`` spreads the numbers evenly, so that the properties of a row are independent of each other and of its time.
_ROWS = """
SELECT {name} AS answer_id, 1 AS revision, outcome, task, 'default' AS tenant, user_id,
    'Where is the parcel that I ordered on the day before yesterday?' AS question,
    CASE WHEN outcome <> 'failed' THEN 'delivery' END AS answer,
    CASE WHEN outcome = 'failed' THEN 'the deadline had passed' END AS failure, '[]' AS sources,
    CASE WHEN outcome <> 'failed' THEN 'stop' END AS finish_reason,
    'x' || (release_sequence / 4 + CASE WHEN arm = 'challenger' THEN 1 ELSE 0 END) AS adapter_id,
    release_sequence, arm, answered_at, answered_at AS answer_at, 'e' || n AS answer_event,
    answered_at AS first_event_at, answered_at AS last_event_at, answered_at AS recorded_at
FROM (
    SELECT n, {moment} AS answered_at, 1 + n / CAST(:release_rows AS bigint) AS release_sequence,
        CASE WHEN h / 100 % 5 = 0 THEN 'support' ELSE 'routing' END AS task,
        CASE WHEN h / 1000 % 10 = 0 THEN 'challenger' ELSE 'champion' END AS arm,
        'user ' || (h / 10000 % CAST(:users AS bigint)) AS user_id,
        CASE WHEN h % 100 < 3 THEN 'failed' WHEN h % 100 < 15 THEN 'approved' WHEN h % 100 < 20 THEN 'disapproved'
            WHEN h % 100 < 25 THEN 'corrected' ELSE 'unrated' END AS outcome
    FROM (SELECT n, n * 2654435761 % 4294967296 AS h FROM {numbers}) AS hashed
) AS properties
"""
_COLUMNS = (
    "answer_id, revision, outcome, task, tenant, user_id, question, answer, failure, sources, finish_reason, "
    "adapter_id, release_sequence, arm, answered_at, answer_at, answer_event, first_event_at, last_event_at, "
    "recorded_at"
)
_COUNTED = ", ".join(
    ("COUNT(*)", "0", *(f"SUM(CASE WHEN outcome = '{name}' THEN 1 ELSE 0 END)" for name in TALLIED[2:]))
)


def fill(database: Database, first: int, last: int, *, release_rows: int = RELEASE_ROWS) -> None:
    """Writes the rows with these numbers and their tallies. ``first`` must be the first row of a release."""
    dialect = database.dialect
    rows = _ROWS.format(numbers=_NUMBERS[dialect], moment=_MOMENT[dialect], name=_NAME[dialect])
    names = ", ".join(TALLIED)
    statements = (
        f"INSERT INTO interactions ({_COLUMNS}) {rows}",  # constants
        f"INSERT INTO arm_tallies (task, arm, release_sequence, adapter_id, slot, {names}) "  # as above
        f"SELECT task, arm, release_sequence, adapter_id, 0, {_COUNTED} FROM ({rows}) AS made "
        "GROUP BY task, arm, release_sequence, adapter_id",
        f"INSERT INTO user_tallies (task, release_sequence, arm, user_id, {names}) "  # as above
        f"SELECT task, release_sequence, arm, user_id, {_COUNTED} FROM ({rows}) AS made "
        "GROUP BY task, release_sequence, arm, user_id",
    )
    for start in range(first, last + 1, PORTION):
        numbers = {"first": start, "last": min(start + PORTION - 1, last), "release_rows": release_rows, "users": USERS}
        with database.connection(write=True) as connection:
            if dialect == "sqlite":
                connection.execute(text("PRAGMA cache_size = -1000000"))  # the ids are random: a gigabyte, for the fill
            for statement in statements:
                connection.execute(text(statement), numbers)


class History:
    """A database with a history, and what the agents do with it."""

    def __init__(self, url: str, rows: int) -> None:
        migrate(url)
        self.rows = rows
        self.database = Database(url)
        fill(self.database, 0, rows - 1)
        self.database.close()  # with the connection goes the large cache that the fill has set
        if self.database.dialect == "postgresql":
            engine = create_engine(self.database.url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text("VACUUM ANALYZE"))
            engine.dispose()
        self.sequence = 1 + (rows - 1) // RELEASE_ROWS
        self._events = 0
        self._recorder = Recorder(SqlFeatureTable(self.database))
        self._journal = SqlJournal(self.database)
        self._answered: list[str] = []
        self._answers = SqlAnswers(self.database)
        self._policy = MonitorPolicy()
        self._monitor = self._controller()
        self._promoter = self._started_canary()

    def record(self) -> None:
        """Records a batch as the delivery recipe does: effects and journal in one transaction."""
        batch = self._batch()
        outcomes = asyncio.run(self._recorder.record(batch))
        began = time.perf_counter()
        with self.database.transaction():
            for outcome in outcomes:
                assert outcome.effect is not None
                outcome.effect()
            self._journal.add_many("recorder", [(each.identity, ()) for each in batch], START)
        self.took = time.perf_counter() - began

    def check(self) -> None:
        """Reads what a drift check needs: whether one is due, and its windows."""
        began = time.perf_counter()
        with self.database.transaction():
            self._monitor.start_if_due(TASK, START)
        baseline = self._baseline()
        self._answers.rows(TASK, baseline, limit=self._policy.read_rows)
        self._answers.rows(TASK, baseline, newest=True, limit=self._policy.read_rows)
        self.took = time.perf_counter() - began

    def decide(self) -> None:
        """Judges a canary that is under way."""
        began = time.perf_counter()
        with self.database.transaction():
            self._promoter.evaluate(None, "benchmark")
        self.took = time.perf_counter() - began

    def _batch(self) -> list[Received[Any]]:
        before, self._answered = self._answered, []
        batch = []
        for number in range(BATCH):
            self._events += 1
            fact: AnswerProduced | AnswerFailed | FeedbackGiven
            if number % 5 == 4:
                answered = self._answered if number % 2 or not before else before
                fact = FeedbackGiven(answer_id=answered[number // 2], rating="up")
            else:
                # the database's own ids are random too
                answer_id = f"{np.random.default_rng(self._events).bytes(16).hex()}"
                self._answered.append(answer_id)
                fact = AnswerProduced(
                    answer_id=answer_id,
                    task=TASK,
                    question="Where is the parcel that I ordered on the day before yesterday?",
                    text="delivery",
                    user=f"user {self._events * 7919 % USERS}",
                    adapter_id=f"x{self.sequence // 4}",
                    release_sequence=self.sequence,
                )
            at = START + timedelta(seconds=self.rows + self._events)
            batch.append(
                Received(
                    event=fact,
                    context=EventContext(id=f"b{self._events}", source="/benchmark", time=at),
                    position=Position(topic="answers.v1", partition=0, offset=self._events),
                )
            )
        return batch

    def _baseline(self) -> Baseline:
        return Baseline(sequence=max(1, self.sequence - 1), champion=f"x{self.sequence // 4}")

    def _controller(self) -> CheckController:
        baseline = self._baseline()
        window = Window(
            start=START + timedelta(seconds=self.rows - 300), end=START + timedelta(seconds=self.rows), rows=200
        )
        checks = SqlDriftChecks(self.database)
        checks.add(
            DriftCheck(
                check_id="c1",
                task=TASK,
                checked_at=START,
                baseline=baseline.sequence,
                reference=window,
                current=window,
                findings=(),
                figures={"rated": 40.0},
            )
        )
        controller = CheckController(
            answers=self._answers,
            checks=checks,
            runs=SqlRunStore(self.database),
            policy_of=lambda _: self._policy,
            settings_location={},
        )
        controller.follow(
            AdapterPromoted(
                task=TASK, sequence=baseline.sequence, champion=str(baseline.champion), previous=None, reason=""
            )
        )
        return controller

    def _started_canary(self) -> ReleaseController:
        releases = SqlReleases(self.database)
        release = Release(
            task=TASK,
            sequence=1,
            champion=f"x{self.sequence // 4}",
            challenger=f"x{self.sequence // 4 + 1}",
            stage="canary",
            share=0.1,
            since_sequence=max(1, self.sequence - 1),
            since_at=START,
            changed_at=START,
        )
        releases.change(release, event_type="everlearn.canary.started.v1", cause=None, at=START)
        # so many ratings are asked for that the canary goes on
        policy = PromoterPolicy(judged=1_000_000)
        return ReleaseController(releases, lambda _: policy, now=lambda: START, log=lambda *_, **__: None)


def measure(histories: Sequence[History], repeats: int) -> dict[str, list[list[float]]]:
    """Returns the milliseconds of each call by what was done, a list for each history."""
    calls: dict[str, Callable[[History], None]] = {
        f"record a batch of {BATCH} facts": History.record,
        "read for a drift check": History.check,
        "decide on a canary": History.decide,
    }
    took: dict[str, list[list[float]]] = {name: [[] for _ in histories] for name in calls}
    for turn in range(WARM_UP + repeats):
        for name, call in calls.items():
            for number, history in enumerate(histories):
                call(history)
                if turn >= WARM_UP:
                    took[name][number].append(history.took * 1000)
    return took


@contextmanager
def urls(server: str | None, folder: Path | None, count: int) -> Iterator[list[str]]:
    """Yields the URLs of empty databases, which are deleted at the end."""
    if server is None:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            yield [f"sqlite:///{made}/{number}.db" for number in range(count)]
        return
    names = [f"everlearn_history_{number}" for number in range(count)]
    engine = create_engine(make_url(server).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    try:
        for name in names:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
                connection.execute(text(f"CREATE DATABASE {name}"))
        yield [make_url(server).set(database=name).render_as_string(hide_password=False) for name in names]
    finally:
        for name in names:
            with engine.connect() as connection:
                connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        engine.dispose()


def main(words: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=(10_000, 1_000_000), metavar=("SMALL", "BIG"))
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where SQLite's files are made")
    parser.add_argument("--url", help="a database of a PostgreSQL server, whose user may create databases")
    asked = parser.parse_args(words)
    with urls(asked.url, asked.folder, 2) as places:
        histories = []
        for place, rows in zip(places, asked.rows, strict=True):
            began = time.perf_counter()
            histories.append(History(place, rows))
            print(f"{rows:,} rows were written in {time.perf_counter() - began:,.0f} s", flush=True)
        small, big = asked.rows
        print(f"\n| p50 / p95 in ms | {small:,} rows | {big:,} rows | p95, ratio |\n|---|---|---|---|")
        for name, (few, many) in measure(histories, asked.repeats).items():
            p = [np.percentile(each, (50, 95)) for each in (few, many)]
            shown = " | ".join(f"{low:.2f} / {high:.2f}" for low, high in p)
            print(f"| {name} | {shown} | {p[1][1] / p[0][1]:.2f} |", flush=True)
        for history in histories:
            history.database.close()


if __name__ == "__main__":
    main(sys.argv[1:])
