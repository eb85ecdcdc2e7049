"""The learning loop on PostgreSQL with two workers of each agent, of which one each is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.demo import shop
from agents.demo.customers import Customers
from agents.demo.event_log import EventLog
from agents.demo.shop import TASK
from infra.kafka import kafka_connection
from infra.settings import load
from infra.sql.releases import SqlReleases
from schemas.learning import AdapterRejected, AdapterTrained, AdapterValidated, TrainingDeclined
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryStarted, ReleaseEvent
from tests.fixtures.sql import new_postgres_database
from tests.fixtures.stack import RunningHome
from tests.flows.loop_scene import CONFIGURATION, EPOCHS, Loop, some
from tests.flows.waiting import until

pytestmark = [pytest.mark.flow, pytest.mark.long, pytest.mark.timeout(900)]
AGENTS = ("answerer", "recorder", "monitor", "trainer", "validator", "promoter")


@pytest.fixture
def loop(models_folder: Path, tmp_path: Path, postgres_url: str) -> Iterator[Loop]:
    home = RunningHome(tmp_path / "home", models_folder)
    home.path.mkdir()
    with new_postgres_database(postgres_url, "everlearn_loop") as url:
        configuration = f'[sql]\nurl = "{url}"\n\n' + CONFIGURATION.format(models=models_folder, epochs=EPOCHS)
        (home.path / "everlearn.toml").write_text(configuration)
        workers = ",".join([*(f"{agent}=2" for agent in AGENTS), "indexer=0", "loader=0", "quantizer=0"])
        home.run("up", "--detach", "--workers", workers)
        settings = load(home.path, environ={})
        try:
            with EventLog(kafka_connection(settings)) as event_log:
                loop = Loop(home, settings, event_log)
                yield loop
                loop.database.close()
        finally:
            home.run("down")


def test_an_adapter_is_trained_and_promoted_although_one_worker_of_each_agent_is_killed(
    loop: Loop, tmp_path: Path
) -> None:
    assert not (loop.home.path / "everlearn.db").exists()
    examples = shop.write_examples(tmp_path / "examples.jsonl", some("examples", each=24))
    loop.home.run("publish", "examples", str(examples))
    until(lambda: len(loop.features.examples(TASK, 1000)) == len(some("examples", each=24)))
    loop.home.run("train", TASK)
    training = loop.running("trainer", progress=0.3)
    loop.kill(str(training.worker), "recorder-1")
    trained = loop.wait(AdapterTrained, 0).event
    validating = loop.running("validator")
    loop.kill(str(validating.worker))
    loop.wait(AdapterValidated, 0)
    with Customers(loop.config) as customers:
        with customers.traffic(some("canary_first")):
            loop.wait(CanaryStarted, 0)
            loop.kill("promoter-1", "monitor-1", "answerer-1", "recorder-2")
            promoted = loop.promotion(0)
        exchanges = list(customers.exchanges)

    assert isinstance(trained, AdapterTrained)
    assert promoted.champion == trained.adapter_id
    for kind in (AdapterTrained, AdapterValidated, CanaryStarted, AdapterPromoted):
        assert len(loop.of(kind)) == 1
    assert not [*loop.of(AdapterRejected), *loop.of(TrainingDeclined), *loop.of(AdapterRolledBack)]
    assert [event.sequence for event in loop.of(ReleaseEvent)] == list(range(1, promoted.sequence + 1))
    for run in (training, validating):
        ended = loop.runs.show(run.run_id)
        assert ended is not None
        assert (ended.state, ended.attempt) == ("done", 2)
    loop.has_each_once(exchanges)
    _the_tallies_count_each_answer_once(loop, len(exchanges))
    until(lambda: loop.home.status()["ready"], every=1.0)
    assert len(loop.home.status()["workers"]) == 2 * len(AGENTS)


def _the_tallies_count_each_answer_once(loop: Loop, answers: int) -> None:
    assert sum(each.asked for each in SqlReleases(loop.database).counts(TASK, sequence=0)) == answers
