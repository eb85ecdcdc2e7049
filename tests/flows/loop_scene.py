"""Runs the learning loop in a home with small windows, while the test plays the customers and kills workers."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from agents.demo.customers import Exchange
from agents.demo.event_log import EventLog, LoggedEvent
from agents.demo.shop import TASK, CustomerMessage, messages
from infra.kafka import kafka_connection
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.journal import SqlJournal
from infra.sql.runs import SqlRunStore
from schemas.delivery import Run
from schemas.event import Event
from schemas.promotions import AdapterPromoted
from tests.fixtures.stack import RunningHome
from tests.flows.waiting import until

E = TypeVar("E", bound=Event)
TEAMS = ("delivery", "returns", "account", "skates")
CONFIGURATION = """\
[model]
folder = "{models}"
threads = 1

[monitor]
reference_rows = 40
current_rows = 30
every_rows = 10
cool_down_seconds = 600
tick_seconds = 2

[trainer]
minimum_rows = 20
holdout_share = 0.25 # which rows that are is each home's own secret, so there must be enough for any
learning_rate = 1e-3
epochs = {epochs}
checkpoint_steps = 2

[validator]
max_general_loss = 1.5
current_rows = 40
retention_rows = 20

[promoter]
shares = [0.5]
judged = 8
margin = 0.15
tick_seconds = 1

[tasks.routing]
instruction = "Which team handles this message?"
metric = "exact_match"
labels = ["delivery", "returns", "account", "skates"]
max_tokens = 6
"""
EPOCHS = 3


class Loop:
    """A running home, and the stores that its agents write."""

    def __init__(self, home: RunningHome, settings: Settings, event_log: EventLog) -> None:
        self.home, self.settings, self.event_log = home, settings, event_log
        self.database = Database(settings.sql_url())
        self.runs, self.journal = SqlRunStore(self.database), SqlJournal(self.database)
        self.features = SqlFeatureTable(self.database)
        self.config = kafka_connection(settings)

    def kill(self, *workers: str) -> None:
        """Kills workers, as a crash does. The supervisor restarts them."""
        pids = self.home.pids()
        for worker in workers:
            os.kill(pids[worker], signal.SIGKILL)

    def wait(self, kind: type[Event], since: int, seconds: float = 300) -> LoggedEvent:
        return self.event_log.wait(lambda event: isinstance(event, kind), seconds, kind.__name__, since=since)

    def running(self, agent: str, *, progress: float = 0.0, seconds: float = 120) -> Run:
        """Returns the agent's run once its child process has made this progress."""

        def found() -> Run | None:
            runs = [run for run in self.runs.unfinished(agent) if run.state == "running"]
            return next((run for run in runs if run.progress.get("done", -1.0) > progress), None)

        return until(found, seconds)

    def promotion(self, since: int) -> AdapterPromoted:
        """Waits for the next promotion until both answerers serve it, and returns it."""
        promoted = self.wait(AdapterPromoted, since).event
        assert isinstance(promoted, AdapterPromoted)
        self.await_serving(promoted.sequence)
        return promoted

    def await_serving(self, sequence: int) -> None:
        until(lambda: all(self.event_log.serving_since(f"answerer-{n}", TASK, sequence) for n in (1, 2)))

    def has_each_once(self, exchanges: Sequence[Exchange]) -> None:
        """Asserts that every question has one answer and one row, with answer and feedback merged into it once each."""
        said = {each.answer.answer_id: each.feedback and each.feedback.rating for each in exchanges}
        assert len(said) == len(exchanges)
        assert not [each for each in exchanges if each.answer.type.endswith("failed.v1")]
        assert any(said.values())

        def captured() -> dict[str, str | None]:
            return {key: row.rating for key, row in self.features.interactions(list(said)).items()}

        until(lambda: captured() == said)
        for row in self.features.interactions(list(said)).values():
            assert row.revision == 1 + (row.rating is not None)

    def of(self, kind: type[E]) -> list[E]:
        """Returns the task's events of a type, oldest first."""
        return [event for event, _ in self.event_log.of_type(kind, TASK)]


def some(*splits: str, each: int | None = None) -> list[CustomerMessage]:
    """Returns messages of the splits that are for one of the test's teams, at most ``each`` per team."""
    left = Counter(dict.fromkeys(TEAMS, 10_000 if each is None else each))
    chosen = []
    for message in messages(*splits):
        if left[message.label] > 0:
            left[message.label] -= 1
            chosen.append(message)
    return chosen
