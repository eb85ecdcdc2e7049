"""The whole loop on real parts, with every agent killed once in the middle of its work, and without corrections."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.demo import shop
from agents.demo.customers import Customers, Exchange, accuracy
from agents.demo.news import News, Newsroom
from agents.demo.shop import TASK, Message, messages
from infra.kafka import KafkaClientConfig
from infra.settings import Settings, load
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.runs import SqlRunStore
from schemas.delivery import Run
from schemas.event import Event
from schemas.learning import AdapterRejected, AdapterTrained, AdapterValidated, DriftDetected, TrainingDeclined
from schemas.release import AdapterPromoted, AdapterRolledBack, CanaryStarted, ReleaseEvent
from tests.fixtures.stack import RunningHome

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]

TEAMS = ("delivery", "returns", "account", "skates")
CONFIGURATION = """\
[model]
folder = "{models}"
threads = 1

[monitor]
reference_rows = 40
current_rows = 30
every_rows = 10
cool_down_seconds = 5
tick_seconds = 2

[trainer]
minimum_rows = 20
learning_rate = 1e-3
epochs = {epochs}
checkpoint_steps = 2

[validator]
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
    """A running home whose customers are played by the test."""

    def __init__(self, home: RunningHome, settings: Settings, newsroom: Newsroom) -> None:
        self.home, self.settings, self.newsroom = home, settings, newsroom
        database = Database(settings.sql_url())
        self.runs = SqlRunStore(database)
        self.features = SqlFeatureTable(database)
        self.config = KafkaClientConfig.from_settings(settings)

    def kill(self, *workers: str) -> None:
        """As a crash does it; the supervisor starts them again."""
        pids = self.home.pids()
        for worker in workers:
            os.kill(pids[worker], signal.SIGKILL)

    def wait(self, kind: type[Event], since: int, seconds: float = 300) -> News:
        return self.newsroom.wait(lambda event: isinstance(event, kind), seconds, kind.__name__, since=since)

    def running(self, agent: str, *, progress: float = 0.0, seconds: float = 120) -> Run:
        """The agent's run once its child is at work."""

        def found() -> Run | None:
            runs = [run for run in self.runs.unfinished(agent) if run.state == "running"]
            return next((run for run in runs if run.progress.get("done", -1.0) > progress), None)

        run: Run = until(found, seconds)
        return run

    def promotion(self, since: int) -> AdapterPromoted:
        """The next promotion, once both answerers serve it."""
        promoted = self.wait(AdapterPromoted, since).event
        assert isinstance(promoted, AdapterPromoted)
        self.await_serving(promoted.sequence)
        return promoted

    def await_serving(self, sequence: int) -> None:
        until(lambda: all(self.newsroom.serving_since(f"answerer-{n}", TASK, sequence) for n in (1, 2)))

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event, _ in self.newsroom.all(kind, TASK)]


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    """The first thing that is found. Fails after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.1)
    pytest.fail(f"did not happen within {seconds:g} s")


def some(*splits: str, each: int | None = None) -> list[Message]:
    """Messages of the splits that go to one of the test's teams, so many a team."""
    left = Counter(dict.fromkeys(TEAMS, 10_000 if each is None else each))
    chosen = []
    for message in messages(*splits):
        if left[message.label] > 0:
            left[message.label] -= 1
            chosen.append(message)
    return chosen


@pytest.fixture(scope="module")
def loop(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    home = RunningHome(tmp_path_factory.mktemp("loop") / "home", models_folder)
    home.path.mkdir()
    (home.path / "everlearn.toml").write_text(CONFIGURATION.format(models=models_folder, epochs=EPOCHS))
    home.run("up", "--detach", "--workers", "answerer=2,quantizer=0")
    settings = load(home.path, environ={})
    try:
        with Newsroom(KafkaClientConfig.from_settings(settings)) as newsroom:
            yield Loop(home, settings, newsroom)
    finally:
        home.run("down")


def test_a_first_adapter_is_trained_validated_and_promoted_though_every_agent_on_the_way_is_killed(
    loop: Loop, tmp_path: Path
) -> None:
    examples = shop.write_examples(tmp_path / "examples.jsonl", some("examples", each=24))
    loop.home.run("publish", "examples", str(examples))
    until(lambda: len(loop.features.examples(TASK, 1000)) == len(some("examples", each=24)))
    loop.home.run("train", TASK)
    training = loop.running("trainer", progress=0.3)
    loop.kill("trainer-1", "recorder-1")
    trained = loop.wait(AdapterTrained, 0).event
    validating = loop.running("validator")
    loop.kill("validator-1")
    loop.wait(AdapterValidated, 0)
    with Customers(loop.config) as customers:
        with customers.coming(some("canary_first")):
            loop.wait(CanaryStarted, 0)
            loop.kill("promoter-1")
            time.sleep(2)
            loop.kill("answerer-1", "recorder-1")
            promoted = loop.promotion(0)
        exchanges = list(customers.exchanges)

    assert isinstance(trained, AdapterTrained)
    adapter_id = trained.adapter_id
    assert promoted.champion == adapter_id
    assert [len(loop.of(kind)) for kind in (AdapterTrained, AdapterValidated, CanaryStarted, AdapterPromoted)] == [
        1
    ] * 4
    assert not loop.of(AdapterRejected) + loop.of(TrainingDeclined) + loop.of(AdapterRolledBack)
    assert [event.sequence for event in loop.of(ReleaseEvent)] == list(range(1, promoted.sequence + 1))
    for run in (training, validating):
        ended = loop.runs.show(run.run_id)
        assert ended is not None
        assert (ended.state, ended.attempt) == ("done", 2)
    _nothing_is_lost_or_doubled(loop, exchanges)
    _aliases_follow(loop, adapter_id)


def test_without_corrections_drift_trains_nothing_and_promotes_nothing(loop: Loop) -> None:
    heard = len(loop.newsroom.heard)
    with Customers(loop.config, corrections="none") as customers:
        usual = customers.ask(some("ordinary", each=16), rate=True)
        unusual = customers.ask(messages("drift_new")[:60], rate=True)
    assert accuracy(usual) > accuracy(unusual) + 0.3

    drift = loop.wait(DriftDetected, heard, 120).event

    assert isinstance(drift, DriftDetected)
    assert drift.remedy == "label"
    assert drift.report_uri is not None
    time.sleep(3)
    assert not loop.runs.unfinished("trainer")
    assert len(loop.of(AdapterTrained)) == len(loop.of(AdapterPromoted)) == 1


def test_with_corrections_drift_ends_in_the_promotion_of_an_adapter_that_knows_the_new_team(loop: Loop) -> None:
    heard = len(loop.newsroom.heard)
    first = loop.of(AdapterPromoted)[-1].champion
    with Customers(loop.config) as customers:
        before = customers.ask(messages("heldout_new")[:20], rate=False)
        with customers.coming(messages("drift_new")[60:140]):
            loop.running("monitor", progress=-1.0)
            loop.kill("monitor-1", "indexer-1")
            until(lambda: any(each.remedy == "retrain" for each in loop.of(DriftDetected)), 240)
        loop.wait(AdapterValidated, heard)
        with customers.coming(shop.interleaved(some("canary_old"), messages("canary_new"))):
            promoted = loop.promotion(heard)
        after = customers.ask(messages("heldout_new")[:20], rate=False)

    assert promoted.previous == first != promoted.champion
    assert accuracy(after) >= accuracy(before) + 0.5
    assert {each.answer.adapter_id for each in after} == {promoted.champion}
    (shown,) = loop.home.json("adapters", "show", str(promoted.champion))
    assert shown["state"] == "validated"


def test_the_promotion_can_be_traced_to_the_corrections_that_caused_it(loop: Loop) -> None:
    champion = loop.of(AdapterPromoted)[-1].champion
    trained = next(event for event in loop.of(AdapterTrained) if event.adapter_id == champion)
    causes = {news.context.id: event for event, news in loop.newsroom.all(DriftDetected, TASK)}

    assert causes[trained.cause].remedy == "retrain"
    done = loop.home.run("adapters", "show", str(champion))
    assert "correction" in done.stdout


def test_a_rollback_by_hand_returns_to_the_adapter_before(loop: Loop) -> None:
    now = loop.of(AdapterPromoted)[-1]
    loop.home.run("rollback", TASK, "--reason", "a test", "--wait")

    back = loop.of(AdapterRolledBack)[-1]

    assert (back.champion, back.sequence) == (now.previous, now.sequence + 1)
    loop.await_serving(back.sequence)
    with Customers(loop.config) as customers:
        (exchange,) = customers.ask(messages("heldout_new")[20:21], rate=False)
    assert exchange.answer.adapter_id == now.previous


def _nothing_is_lost_or_doubled(loop: Loop, exchanges: list[Exchange]) -> None:
    """Every question has one answer and one row; a row's revision counts its answer and its feedback, once each."""
    ids = [each.answer.answer_id for each in exchanges]
    assert len(ids) == len(set(ids))
    assert not [each for each in exchanges if each.answer.type.endswith("failed.v1")]

    def settled() -> bool:
        rows = loop.features.interactions(ids)
        return len(rows) == len(ids) and all(
            row.revision == 1 + (row.rating_stamp is not None) for row in rows.values()
        )

    until(settled)
    rated = [row for row in loop.features.interactions(ids).values() if row.rating is not None]
    assert len(rated) > len(ids) / 2


def _aliases_follow(loop: Loop, champion: str) -> None:
    def followed() -> bool:
        (shown,) = loop.home.json("adapters", "show", champion)
        return "champion" in shown["aliases"]

    until(followed)
