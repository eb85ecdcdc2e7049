"""Runs an experiment with worker processes that are restarted when they die, and counts lost and doubled events."""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from infra.kafka import RecordPublisher, RecordReader
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.migrate import migrate
from schemas.envelope import Record, encode, new_context
from schemas.interactions import FeedbackGiven
from schemas.kafka import KafkaConnection
from schemas.topics import dead_letter_topic
from tests.flows.faults.worker import POISON, Plan, work

_LATE = ("faust.app.router", "faust.tables", "faust.worker", "faust.transport.drivers.aiokafka")
"""Modules that Faust imports only when they are used."""
_PROCESSES = multiprocessing.get_context("forkserver")
# The workers live so shortly that imports would take most of their time.
_PROCESSES.set_forkserver_preload(["tests.flows.faults.worker", *_LATE])
TOPICS = ("interactions.v1", dead_letter_topic("feedback.v1", "recorder"))
"""The topics that the worker publishes to."""
RESTART_SECONDS = 0.3
EVENTS = 1000
"""The number of events for each fault in the test suite."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """The result of an experiment. All numbers except the last three must be 0."""

    lost_effects: int
    doubled_effects: int
    lost_outputs: int
    differing_outputs: int
    """Outputs that were published twice with different bytes."""
    dead_letters: int
    repeated_records: int
    """Outputs published again with the same id and bytes, which at-least-once allows."""
    deaths: int

    @property
    def lost(self) -> int:
        return self.lost_effects + self.lost_outputs

    @property
    def doubled(self) -> int:
        return self.doubled_effects + self.differing_outputs


class Scene:
    """One experiment: publishes events, runs workers with faults, and counts effects and outputs.

    ``shared``: other experiments have used the broker, so the outputs are read only from now on. Otherwise they are
    read from their beginning, and only at the end, because a reader that outlives its broker leaks a socket a second.
    """

    def __init__(self, bootstrap: str, folder: Path, *, shared: bool = False) -> None:
        self.config = KafkaConnection(bootstrap_servers=bootstrap)
        self._reader = RecordReader(self.config, TOPICS, from_end=True) if shared else None
        self._folder = folder
        self._url = f"sqlite:///{folder / 'scene.db'}"
        migrate(self._url)
        self.features = SqlFeatureTable(Database(self._url))
        self._tag = uuid.uuid4().hex[:8]
        self._events = 0
        self._workers: dict[str, ForkServerProcess] = {}
        self._plans: dict[str, Plan] = {}
        self.deaths = 0
        self._collected: list[tuple[str, object]] = []
        self._letters: set[tuple[object, object]] = set()

    # -- events ------------------------------------------------------------------------------------------------------

    def publish(self, count: int, *, malformed_every: int = 0, poison_at: int = -1, characters: int = 0) -> None:
        """Publishes feedback events, five for each answer, with a malformed record after every so many of them.

        ``characters``: the length of a correction in each event.
        """
        with RecordPublisher(self.config) as publisher:
            for number in range(self._events, self._events + count):
                publisher.send(self._record(number, poison=number == poison_at, characters=characters))
                if malformed_every and number % malformed_every == 0:
                    record = self._record(number, poison=False)
                    publisher.send(replace(record, value=b"\xff not JSON", headers=record.headers[:3]))
            publisher.flush()
        self._events += count

    def _record(self, number: int, *, poison: bool, characters: int = 0) -> Record:
        event = FeedbackGiven(
            answer_id=self._answer(number),
            rating="up",
            reason=POISON if poison else None,
            correction="x" * characters or None,
        )
        return encode(event, new_context("/tests", now=datetime.now(UTC), event_id=f"{self._tag}-{number}"))

    def _answer(self, number: int) -> str:
        return f"{self._tag}-answer-{number // 5}"

    # -- workers -----------------------------------------------------------------------------------------------------

    def plan(self, **changes: object) -> Plan:
        scratch = self._folder / "scratch"
        scratch.mkdir(exist_ok=True)
        plan = Plan(bootstrap=self.config.bootstrap_servers, sql_url=self._url, scratch=str(scratch))
        return replace(plan, **changes)  # type: ignore[arg-type]  # the fields' own types are checked by Plan's users

    def start(self, plan: Plan) -> None:
        """Starts a worker. ``run_until`` restarts it whenever it has died."""
        self._plans[plan.name] = plan
        log = self._folder / f"{plan.name}.log"
        log.touch()
        self._workers[plan.name] = _PROCESSES.Process(target=work, args=(plan, log), daemon=True)
        self._workers[plan.name].start()

    def join(self, plan: Plan, more: int, seconds: float = 60.0) -> None:
        """Starts another worker. When it is ready, publishes more events, and waits until a third have their effect.

        So the worker joins under load, and a test that then stops it makes it leave under load.
        """
        self.start(plan)
        log = self._folder / f"{plan.name}.log"
        self.run_until(lambda: '"event": "ready"' in log.read_text(errors="replace"), seconds)
        before = self.effects()
        self.publish(more)
        self.run_until(lambda: self.effects() > before + more // 3, seconds)

    def until_begun(self, batches: int, seconds: float = 60.0) -> None:
        """Waits until workers have begun so many batches in all."""
        begun = self._folder / "scratch" / "begun"
        self.run_until(lambda: begun.exists() and len(begun.read_bytes()) >= batches, seconds)

    def stop(self, name: str) -> None:
        """Stops a worker, and asserts that it ends in time."""
        process = self._workers.pop(name)
        process.terminate()
        process.join(20)
        assert process.exitcode == 0, self.log()

    def kill(self, name: str) -> None:
        self._workers[name].kill()

    def memory_mb(self, name: str) -> float:
        """Returns the resident memory of a worker that runs."""
        status = Path(f"/proc/{self._workers[name].pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def run_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Restarts dead workers until ``done``. Fails with the workers' logs when that takes too long."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not done in {seconds} s: {self.count()}\n{self.log()}"
            for name, process in list(self._workers.items()):
                if process.exitcode is not None:
                    self.deaths += 1
                    time.sleep(RESTART_SECONDS)
                    self.start(self._plans[name])
            time.sleep(0.1)

    def effects(self) -> int:
        """Returns the number of effects so far."""
        return sum(self._revisions().values())

    def finish(self, seconds: float = 60.0, *, dead_letters: int = 0, poisoned: int = 0) -> Count:
        """Waits for the effects and outputs of all events, stops the workers, and counts."""
        self.run_until(lambda: self.effects() >= self._events - poisoned, seconds)
        with self._reader or RecordReader(self.config, TOPICS) as reader:
            self.run_until(lambda: self._collect(reader, self._events - poisoned, dead_letters), seconds)
            # Workers may still get events again that they have not acked. Nothing marks the end of that, so wait: an
            # output that is then published twice must arrive before the count.
            time.sleep(1.5)
            for name in list(self._workers):
                self.stop(name)
            self._collect(reader, 0, 0)
        return self.count(poisoned=poisoned)

    def _collect(self, reader: RecordReader, outputs: int, letters: int) -> bool:
        for record in reader.until_end():
            if not (record.key or b"").decode().startswith(self._tag):
                continue
            headers = dict(record.headers)
            if record.position.topic == "interactions.v1":
                content = (record.key, record.value, record.headers)
                self._collected.append((headers["ce_id"].decode(), content))
            else:
                self._letters.add((headers["dlq_partition"], headers["dlq_offset"]))
        return len({event_id for event_id, _ in self._collected}) >= outputs and len(self._letters) >= letters

    def _revisions(self) -> dict[str, int]:
        answers = sorted({self._answer(number) for number in range(self._events)})
        return {name: row.revision for name, row in self.features.interactions(answers).items()}

    # -- counting ----------------------------------------------------------------------------------------------------

    def count(self, *, poisoned: int = 0) -> Count:
        """Compares the effects and outputs with the expected ones."""
        expected = Counter(self._answer(number) for number in range(self._events))
        found = Counter(self._revisions())
        contents: dict[str, set[object]] = {}
        for event_id, content in self._collected:
            contents.setdefault(event_id, set()).add(content)
        return Count(
            lost_effects=(expected - found).total() - poisoned,
            doubled_effects=(found - expected).total(),
            lost_outputs=self._events - poisoned - len(contents),
            differing_outputs=sum(len(each) - 1 for each in contents.values()),
            dead_letters=len(self._letters),
            repeated_records=len(self._collected) - len(contents),
            deaths=self.deaths,
        )

    def log(self) -> str:
        """Returns the end of the workers' logs."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self._folder.glob("*.log"))

    def close(self) -> None:
        for process in self._workers.values():
            process.kill()
            process.join()
        if self._reader is not None:
            self._reader.close()
        if os.environ.get("EVERLEARN_SHOW_LOGS"):
            print(self.log())
