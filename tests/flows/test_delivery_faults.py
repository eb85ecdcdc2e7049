"""Delivery on a real broker, with real worker processes that are killed, that fail, and that join and leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flows.faults.scene import EVENTS, Scene

pytestmark = pytest.mark.flow

STEPS = ("begun", "handled", "committed", "published", "marked", "finished", "acked")
OUTSIDE_RETRIES = ("begun", "acked")
"""Steps outside the handler's retries. An error there ends the process, and its offsets are not committed."""


@pytest.fixture
def scene(kafka_bootstrap: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(kafka_bootstrap, tmp_path, shared=True)
    yield scene
    scene.close()


@pytest.mark.parametrize("step", STEPS)
def test_a_worker_killed_at_any_step_loses_and_doubles_nothing(scene: Scene, step: str) -> None:
    scene.publish(EVENTS)
    scene.start(scene.plan(step=step, action="kill"))
    count = scene.finish()
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count
    assert count.deaths == 1


@pytest.mark.parametrize("step", STEPS)
def test_an_exception_at_any_step_loses_and_doubles_nothing(scene: Scene, step: str) -> None:
    scene.publish(EVENTS)
    scene.start(scene.plan(step=step, action="raise"))
    count = scene.finish()
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count
    assert count.deaths == (1 if step in OUTSIDE_RETRIES else 0)


def test_malformed_messages_become_dead_letters_and_all_others_are_processed(scene: Scene) -> None:
    scene.publish(EVENTS, malformed_every=100)
    scene.start(scene.plan())
    count = scene.finish(dead_letters=10)
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 10), count


def test_an_event_that_kills_its_process_each_time_is_dead_lettered_after_three_lone_attempts(scene: Scene) -> None:
    scene.publish(EVENTS, poison_at=EVENTS // 2)
    scene.start(scene.plan())
    count = scene.finish(dead_letters=1, poisoned=1, seconds=120)
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 1), count
    assert count.deaths == 5  # twice with its batch, three times alone


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


def test_workers_that_are_stopped_while_they_handle_an_event_do_not_make_it_suspicious(scene: Scene) -> None:
    scene.publish(1)
    for life in range(6):
        slow = scene.plan(pause_seconds=600.0, shutdown_seconds=0.3)
        scene.start(slow)
        scene.until_begun(life + 1)
        scene.stop(slow.name)
    scene.start(scene.plan())
    count = scene.finish()
    assert (count.lost, count.doubled, count.dead_letters) == (0, 0, 0), count
