"""The learning loop on real parts: a promotion although all agents are killed, and drift without corrections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.demo import shop
from agents.demo.customers import Customers, accuracy
from agents.demo.event_log import EventLog
from agents.demo.shop import TASK, messages
from infra.kafka import kafka_connection
from infra.settings import load
from schemas.envelope import identity
from schemas.learning import AdapterRejected, AdapterTrained, AdapterValidated, DriftDetected, TrainingDeclined
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryStarted, ReleaseEvent
from tests.fixtures.stack import RunningHome
from tests.flows.loop_scene import CONFIGURATION, EPOCHS, Loop, some
from tests.flows.waiting import until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def loop(models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    home = RunningHome(tmp_path_factory.mktemp("loop") / "home", models_folder)
    home.path.mkdir()
    (home.path / "everlearn.toml").write_text(CONFIGURATION.format(models=models_folder, epochs=EPOCHS))
    home.run("up", "--detach", "--workers", "answerer=2,indexer=0,loader=0,quantizer=0")
    settings = load(home.path, environ={})
    try:
        with EventLog(kafka_connection(settings)) as event_log:
            yield Loop(home, settings, event_log)
    finally:
        home.run("down")


def test_a_first_adapter_is_trained_validated_and_promoted_although_every_agent_is_killed(
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
        with customers.traffic(some("canary_first")):
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
    assert not [*loop.of(AdapterRejected), *loop.of(TrainingDeclined), *loop.of(AdapterRolledBack)]
    assert [event.sequence for event in loop.of(ReleaseEvent)] == list(range(1, promoted.sequence + 1))
    for run in (training, validating):
        ended = loop.runs.show(run.run_id)
        assert ended is not None
        assert (ended.state, ended.attempt) == ("done", 2)
    loop.has_each_once(exchanges)
    _is_champion_in_the_registry(loop, adapter_id)


def test_drift_without_corrections_trains_and_promotes_nothing(loop: Loop) -> None:
    heard = len(loop.event_log.events)
    with Customers(loop.config, corrections="none") as customers:
        usual = customers.ask(some("ordinary", each=12), rate=True)
        unusual = customers.ask(messages("drift_new")[:45], rate=True)
    assert accuracy(usual) > accuracy(unusual) + 0.3

    news = loop.wait(DriftDetected, heard, 120)
    drift = news.event

    assert isinstance(drift, DriftDetected)
    assert drift.remedy == "label"
    assert drift.report_uri is not None
    cause = identity(news.context)
    until(lambda: loop.journal.find("trainer", [cause]))  # the trainer has handled the event
    assert not loop.runs.unfinished("trainer")
    assert len(loop.of(AdapterTrained)) == len(loop.of(AdapterPromoted)) == 1


def _is_champion_in_the_registry(loop: Loop, adapter_id: str) -> None:
    def has_the_alias() -> bool:
        (shown,) = loop.home.json("adapters", "show", adapter_id)
        return "champion" in shown["aliases"]

    until(has_the_alias, every=1.0)
