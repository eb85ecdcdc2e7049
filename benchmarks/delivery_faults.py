"""Counts lost and doubled events under 19 faults: ``python -m benchmarks.delivery_faults [--events N]``.

Each fault gets 5,000 events by default. The table has the fault, and the counts of lost, doubled and dead-lettered
events, of outputs that were published again with the same bytes, and of worker deaths, with the seconds it took.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.kafka import create_topics
from infra.local import kafka
from tests.fixtures.kafka import CACHE, PrivateBroker
from tests.flows.faults.scene import Count, Scene
from tests.flows.test_delivery_faults import STEPS

SECONDS = 600.0
Fault = Callable[[Scene, PrivateBroker, int], Count]


def killed_at(step: str) -> Fault:
    def run(scene: Scene, _broker: PrivateBroker, events: int) -> Count:
        scene.publish(events)
        scene.start(scene.plan(step=step, action="kill", strike=20))
        return scene.finish(SECONDS)

    return run


def raised_at(step: str) -> Fault:
    def run(scene: Scene, _broker: PrivateBroker, events: int) -> Count:
        scene.publish(events)
        scene.start(scene.plan(step=step, action="raise", strike=20))
        return scene.finish(SECONDS)

    return run


def malformed(scene: Scene, _broker: PrivateBroker, events: int) -> Count:
    scene.publish(events, malformed_every=100)
    scene.start(scene.plan())
    return scene.finish(SECONDS, dead_letters=events // 100)


def poison(scene: Scene, _broker: PrivateBroker, events: int) -> Count:
    scene.publish(events, poison_at=events // 2)
    scene.start(scene.plan())
    return scene.finish(SECONDS, dead_letters=1, poisoned=1)


def broker_away(seconds: float, **plan: object) -> Fault:
    def run(scene: Scene, broker: PrivateBroker, events: int) -> Count:
        scene.publish(events)
        scene.start(scene.plan(pause_seconds=0.002, **plan))
        scene.run_until(lambda: scene.effects() > events // 4, SECONDS)
        broker.kill()
        time.sleep(seconds)
        broker.start()
        return scene.finish(SECONDS)

    return run


def joining_and_leaving(scene: Scene, _broker: PrivateBroker, events: int) -> Count:
    scene.publish(events // 5)
    scene.start(scene.plan(name="recorder-0", pause_seconds=0.003))
    for number in range(1, 5):
        name = f"recorder-{number}"
        scene.join(scene.plan(name=name, pause_seconds=0.003), events // 5, SECONDS)
        if number % 2:
            scene.stop(name)
        else:
            scene.kill(name)
    return scene.finish(SECONDS)


FAULTS: dict[str, Fault] = {
    **{f"SIGKILL when {step}": killed_at(step) for step in STEPS},
    **{f"exception when {step}": raised_at(step) for step in STEPS},
    "a malformed message in a hundred": malformed,
    "an event that kills its process": poison,
    "broker away for 20 s": broker_away(20),
    "broker away beyond the poll interval, buffers full": broker_away(20, buffer=64, max_poll_interval_seconds=8.0),
    "workers joining, leaving and dying": joining_and_leaving,
}


@contextmanager
def a_broker(folder: Path) -> Iterator[PrivateBroker]:
    kafka.prepare(CACHE)
    broker = PrivateBroker(folder)
    broker.start()
    try:
        create_topics(broker.config)
        yield broker
    finally:
        broker.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=5000)
    events = parser.parse_args().events
    print(f"{events:,} events per fault")
    print("| fault | lost | doubled | dead letters | sent again, same bytes | deaths | seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, fault in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder, a_broker(Path(folder)) as broker:
            scene = Scene(broker.bootstrap, Path(folder))
            began = time.monotonic()
            try:
                count = fault(scene, broker, events)
            finally:
                scene.close()
            cells = (name, count.lost, count.doubled, count.dead_letters, count.repeated_records, count.deaths)
            print("| " + " | ".join(str(cell) for cell in cells), f"| {time.monotonic() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
