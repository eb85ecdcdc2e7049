"""Delivery while its broker is away."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.kafka import create_topics
from tests.fixtures.kafka import PrivateBroker
from tests.flows.faults.scene import EVENTS, Count, Scene

pytestmark = pytest.mark.flow


@pytest.fixture
def broker(kafka_broker: Callable[[], PrivateBroker]) -> PrivateBroker:
    broker = kafka_broker()
    create_topics(broker.config)
    return broker


def test_nothing_is_lost_or_doubled_while_the_broker_is_away_for_twenty_seconds(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    count = _away(broker, broker.kill, tmp_path)
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count


def test_nothing_is_lost_or_doubled_while_the_broker_is_away_beyond_the_poll_interval_with_full_buffers(
    broker: PrivateBroker, tmp_path: Path
) -> None:
    count = _away(broker, broker.stop, tmp_path, buffer=64, max_poll_interval_seconds=8.0)
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count


def _away(broker: PrivateBroker, leave: Callable[[], None], folder: Path, **plan: float) -> Count:
    """Stops the broker for 20 s while a worker handles events, and returns the count."""
    scene = Scene(broker.bootstrap, folder)
    scene.publish(EVENTS)
    scene.start(scene.plan(pause_seconds=0.005, **plan))
    scene.run_until(lambda: scene.effects() > EVENTS // 4, 60)
    leave()
    time.sleep(20)
    broker.start()
    count = scene.finish(seconds=120)
    scene.close()
    return count
