"""Runs recorders whose clocks are minutes apart and jump, while they are killed; checks events, ticks and runs.

``python -m benchmarks.campaign.clocks HOME NAME OFFSETS`` is one of the workers: a real recorder with a tick and a run.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agents.delivery.lifecycle import run_worker
from agents.delivery.outcome import NOTHING, Outcome, RunRequest
from agents.delivery.worker import RunKind, Tick, Worker
from agents.recorder import AGENT
from agents.wiring import recorder
from agents.wiring.platform import parts
from agents.wiring.run import configure_logging
from benchmarks.campaign.audit import audit
from benchmarks.campaign.outcome import counts, found
from benchmarks.delivery_faults import a_broker
from benchmarks.question_flow import ROOT
from infra.kafka import RecordPublisher
from infra.settings import Settings, load
from infra.sql.migrate import migrate
from schemas.delivery import Claim
from schemas.envelope import encode, new_context
from schemas.event import JsonObject
from schemas.interactions import FeedbackGiven
from schemas.kafka import KafkaConnection

OFFSETS = ((300.0, *[0.0] * 11), (-300.0,), (0.0, -300.0, -120.0, -300.0))
"""The error of each worker's clock in seconds. A clock with several errors jumps to the next one again and again.

No clock stays ahead: ticks that then waited until the others have caught up would be seen.
"""
JUMP_SECONDS = 7.0
TICK_SECONDS = 2.0
RUN_EVERY = 5
"""Ticks from one request for a run to the next."""
RUN_SECONDS = 4.0
SILENCE_SECONDS = 45.0
"""Ticks may pause for this long: a worker that is killed holds its lease for half a minute."""
KILL_SECONDS = 12.0
SETTLE_SECONDS = 120.0
EVENTS_AT_ONCE = 10


class WrongClock:
    """A clock with an error, which may change every few seconds."""

    def __init__(self, offsets: Sequence[float]) -> None:
        self._offsets = offsets

    def __call__(self) -> datetime:
        place = int(time.time() / JUMP_SECONDS) % len(self._offsets)
        return datetime.now(UTC) + timedelta(seconds=self._offsets[place])


def work(settings: Settings, name: str, offsets: Sequence[float]) -> int:
    """Runs a recorder with this clock, with a tick that notes when it happened and now and then requests a run."""
    configure_logging()
    ticks = 0

    async def tick(scheduled: datetime) -> Outcome:
        nonlocal ticks
        ticks += 1
        _note(settings.home / "ticks", f"{time.time()} {scheduled.isoformat()}")
        return Outcome(runs=[RunRequest(kind="slow")]) if ticks % RUN_EVERY == 1 else NOTHING

    def done(_: Claim, __: JsonObject) -> Outcome:
        return NOTHING

    def failed(_: Claim, __: str) -> Outcome:
        return NOTHING

    kind = RunKind(name="slow", entry="benchmarks.campaign.clocks:slow_run", done=done, failed=failed, max_attempts=9)

    def build() -> Worker:
        every = Tick(name="noted", every_seconds=TICK_SECONDS, handle=tick)
        return replace(recorder.build(settings), ticks=(every,), runs=(kind,))

    wrong = replace(parts(settings), clock=WrongClock(offsets))
    return asyncio.run(run_worker(AGENT, build, wrong, name, instance=name))


def slow_run(_: JsonObject, folder: Path) -> JsonObject:
    """The work of a run: it takes some seconds, and notes when another process works in the same folder."""
    with (folder / "taken").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _note(folder.parents[2] / "collisions", folder.name)
        time.sleep(RUN_SECONDS)
    return {}


def block(seed: int, seconds: float) -> JsonObject:
    """Runs a block and returns its result. ``seconds``: how long events are published and workers are killed."""
    began = time.monotonic()
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="clocks-") as folder, a_broker(Path(folder)) as broker:
        home = Path(folder) / "home"
        home.mkdir()
        (home / "everlearn.toml").write_text(
            f'[kafka]\nbootstrap_servers = "{broker.bootstrap}"\n\n[worker]\nsession_timeout_seconds = 6\n'
        )
        settings = load(home, environ={})
        migrate(settings.sql_url())
        workers = {f"recorder-{number}": offsets for number, offsets in enumerate(OFFSETS, 1)}
        processes = {name: _start(home, name, offsets) for name, offsets in workers.items()}
        kills = 0
        kill_at = time.monotonic() + KILL_SECONDS
        try:
            number = 0
            while time.monotonic() < began + seconds:
                number = _publish(broker.config, seed, number)
                if time.monotonic() > kill_at:
                    name = chance.choice(list(workers))
                    processes[name].kill()
                    kills += 1
                    kill_at = time.monotonic() + chance.expovariate(1 / KILL_SECONDS)
                _restart_dead(home, processes, workers)
                time.sleep(0.3)
            deadline = time.monotonic() + SETTLE_SECONDS
            findings = audit(settings, readers=(AGENT,))
            while findings.lost and time.monotonic() < deadline:
                _restart_dead(home, processes, workers)
                time.sleep(2.0)
                findings = audit(settings, readers=(AGENT,))
            dead = [name for name, process in processes.items() if process.poll() is not None]
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
        gap, ticks = _longest_gap(home)
        collisions = _lines(home / "collisions")
        if gap > SILENCE_SECONDS or collisions or dead or findings.lost:
            print("\n".join(path.read_text(errors="replace")[-3000:] for path in home.glob("*.log")), flush=True)
    problems = [f"two processes worked in the folder of run {each}" for each in collisions]
    silent = [f"no tick for {gap:.0f} s"] if gap > SILENCE_SECONDS else []
    result = counts(findings)
    return {
        "kind": "clocks",
        "seed": seed,
        "done": {"kills": kills, "ticks": ticks},
        **result,
        "lost": result["lost"] + len(silent),
        "doubled": result["doubled"] + len(problems),
        "dead_workers": len(dead),
        "longest_gap": round(gap, 1),
        "found": [*found(findings), *problems, *silent],
        "seconds": round(time.monotonic() - began),
    }


def _start(home: Path, name: str, offsets: Sequence[float]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.campaign.clocks", str(home), name, json.dumps(offsets)]
    with (home / f"{name}.log").open("ab") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)


def _restart_dead(
    home: Path, processes: dict[str, subprocess.Popen[bytes]], workers: dict[str, tuple[float, ...]]
) -> None:
    for name, process in processes.items():
        if process.poll() is not None:
            processes[name] = _start(home, name, workers[name])


def _publish(config: KafkaConnection, seed: int, number: int) -> int:
    with RecordPublisher(config) as publisher:
        for each in range(number, number + EVENTS_AT_ONCE):
            event = FeedbackGiven(answer_id=f"a{each // 3}", rating="up")
            publisher.send(encode(event, new_context("/clocks", now=datetime.now(UTC), event_id=f"{seed}-{each}")))
        publisher.flush()
    return number + EVENTS_AT_ONCE


def _note(file: Path, line: str) -> None:
    with file.open("a") as notes:
        notes.write(f"{line}\n")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _longest_gap(home: Path) -> tuple[float, int]:
    """Returns the longest time without a tick, in seconds, and the number of ticks."""
    moments = sorted(float(line.split()[0]) for line in _lines(home / "ticks"))
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    return max(gaps, default=float("inf")), len(moments)


if __name__ == "__main__":
    code = work(load(Path(sys.argv[1]), environ={}), sys.argv[2], json.loads(sys.argv[3]))
    sys.stdout.flush()
    os._exit(code)
