"""The delivery recipe while its broker is away, and while workers join and leave."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.kafka import create_topics
from tests.fixtures.kafka import PrivateBroker
from tests.flows.faults.scene import Scene

pytestmark = pytest.mark.flow

EVENTS = 1000


@pytest.fixture
def scene(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(kafka_bootstrap, tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def broker(kafka_broker: Callable[[], PrivateBroker]) -> PrivateBroker:
    broker = kafka_broker()
    create_topics(broker.config)
    return broker


def test_a_broker_away_for_twenty_seconds_costs_nothing_but_time(broker: PrivateBroker, tmp_path: Path) -> None:
    scene = Scene(broker.bootstrap, tmp_path)
    scene.publish(EVENTS)
    scene.start(scene.plan(pause_seconds=0.005))
    scene.run_until(lambda: scene.effects() > EVENTS // 4, 60)
    broker.kill()
    time.sleep(20)
    broker.start()
    count = scene.finish(seconds=120)
    scene.close()
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count


def test_a_broker_away_beyond_the_poll_interval_with_full_buffers_costs_nothing(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    scene = Scene(broker.bootstrap, tmp_path)
    scene.publish(EVENTS)
    scene.start(scene.plan(pause_seconds=0.005, buffer=64, max_poll_interval_seconds=8.0))
    scene.run_until(lambda: scene.effects() > EVENTS // 4, 60)
    broker.stop()
    time.sleep(20)
    broker.start()
    count = scene.finish(seconds=120)
    scene.close()
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count


def test_a_second_worker_joining_and_leaving_under_load_loses_and_doubles_nothing(scene: Scene) -> None:
    scene.publish(EVENTS // 2)
    scene.start(scene.plan(name="recorder-0", pause_seconds=0.01))
    scene.run_until(lambda: scene.effects() > EVENTS // 10, 60)
    scene.join(scene.plan(name="recorder-1", pause_seconds=0.01), EVENTS // 2)
    scene.stop("recorder-1")
    scene.join(scene.plan(name="recorder-2", pause_seconds=0.01), EVENTS // 2)
    scene.kill("recorder-2")
    count = scene.finish(seconds=120)
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count
