"""Publishes an hour's worth of events in seconds to a worker that is slower, and watches its memory and its lag."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from benchmarks.delivery_faults import a_broker
from infra.kafka.fleet import Fleet
from schemas.event import JsonObject
from tests.flows.faults.scene import Scene

HOUR_SECONDS = 3600
CHARACTERS = 2000
GROWTH_MB = 20.0
"""How far the memory may rise after the first tenth of the events. All events together have twice to ten times this."""
SECONDS = 900.0
WORKER = "recorder-0"


def block(seed: int, per_second: float, pause_seconds: float) -> JsonObject:
    """Runs a block and returns its result. ``per_second``: of the hour. ``pause_seconds``: how long an event takes."""
    began = time.monotonic()
    events = int(HOUR_SECONDS * per_second)
    memory: list[float] = []
    lags: list[int] = []
    with tempfile.TemporaryDirectory(prefix="slow-") as folder, a_broker(Path(folder)) as broker:
        scene = Scene(broker.bootstrap, Path(folder))
        try:
            scene.start(scene.plan(name=WORKER, pause_seconds=pause_seconds))
            publishing = threading.Thread(target=scene.publish, args=(events,), kwargs={"characters": CHARACTERS})
            publishing.start()
            with Fleet(broker.config) as fleet:

                def done() -> bool:
                    report = fleet.reports().get(WORKER)
                    if report is not None and report.worker.lag is not None:
                        lags.append(report.worker.lag)
                    effects = scene.effects()
                    if effects > events // 10:
                        memory.append(scene.memory_mb(WORKER))
                    return effects >= events

                scene.run_until(done, SECONDS)
            publishing.join()
            count = scene.finish(SECONDS)
        finally:
            scene.close()
    growth = max(memory) - memory[0]
    problems = []
    if growth > GROWTH_MB:
        problems.append(f"the memory rose by {growth:.0f} MB")
    if max(lags, default=0) < events // 4:
        problems.append(f"the greatest lag that was reported is {max(lags, default=0)} of {events} events")
    return {
        "kind": "slow",
        "seed": seed,
        "done": {"events of an hour": events},
        "events": events,
        "lost": count.lost,
        "doubled": count.doubled,
        "dead_letters": count.dead_letters,
        "given_up": 0,
        "dead_workers": len(problems),
        "megabytes": [round(memory[0], 1), round(max(memory), 1)],
        "greatest_lag": max(lags, default=0),
        "found": problems,
        "seconds": round(time.monotonic() - began),
    }
