"""A broker, a database and worker processes that are started again when they die, and the count of what came out."""

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
"""What Faust imports only when it is used."""
_PROCESSES = multiprocessing.get_context("forkserver")
# Imports take longer than a worker's short life.
_PROCESSES.set_forkserver_preload(["tests.flows.faults.worker", *_LATE])
TOPICS = ("interactions.v1", dead_letter_topic("feedback.v1", "recorder"))
"""What the worker publishes to."""
RESTART_SECONDS = 0.3
EVENTS = 1000
"""Of a fault in the test suite."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """What became of the events. All but the last three must be 0."""

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
    """One experiment: events in, workers that suffer, a count.

    ``shared``: the broker lives on and has held other experiments, whose records are not read again. Otherwise what
    was published is read from its beginning once all is there: a reader that outlives its broker leaks a socket a
    second.
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

    def publish(self, count: int, *, malformed_every: int = 0, poison_at: int = -1) -> None:
        """Publishes feedback, a fifth as many answers as events, and so many malformed records among them."""
        with RecordPublisher(self.config) as publisher:
            for number in range(self._events, self._events + count):
                publisher.send(self._record(number, poison=number == poison_at))
                if malformed_every and number % malformed_every == 0:
                    record = self._record(number, poison=False)
                    publisher.send(replace(record, value=b"\xff not JSON", headers=record.headers[:3]))
            publisher.flush()
        self._events += count

    def _record(self, number: int, *, poison: bool) -> Record:
        event = FeedbackGiven(answer_id=self._answer(number), rating="up", reason=POISON if poison else None)
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
        """Starts a worker that is started again whenever it dies."""
        self._plans[plan.name] = plan
        log = self._folder / f"{plan.name}.log"
        log.touch()
        self._workers[plan.name] = _PROCESSES.Process(target=work, args=(plan, log), daemon=True)
        self._workers[plan.name].start()

    def join(self, plan: Plan, more: int, seconds: float = 60.0) -> None:
        """Starts another worker; once it is ready so many events more are published, and a third of them has effects.

        So it is sure to have joined, and to leave, under load.
        """
        self.start(plan)
        log = self._folder / f"{plan.name}.log"
        self.run_until(lambda: '"event": "ready"' in log.read_text(errors="replace"), seconds)
        before = self.effects()
        self.publish(more)
        self.run_until(lambda: self.effects() > before + more // 3, seconds)

    def stop(self, name: str) -> None:
        """Asks a worker to end, and shows that it does within its bound."""
        process = self._workers.pop(name)
        process.terminate()
        process.join(20)
        assert process.exitcode == 0, self.log()

    def kill(self, name: str) -> None:
        self._workers[name].kill()

    def run_until(self, done: Callable[[], bool], seconds: float) -> None:
        """Keeps the workers alive until ``done``; fails with their logs when that takes too long."""
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
        """How many effects are there."""
        return sum(self._revisions().values())

    def finish(self, seconds: float = 60.0, *, dead_letters: int = 0, poisoned: int = 0) -> Count:
        """Waits until every event's effect is there, lets what follows settle, ends the workers, and counts."""
        self.run_until(lambda: self.effects() >= self._events - poisoned, seconds)
        with self._reader or RecordReader(self.config, TOPICS) as reader:
            self.run_until(lambda: self._collect(reader, self._events - poisoned, dead_letters), seconds)
            time.sleep(1.5)  # whatever would come twice has its chance
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
        """Compares effects and outputs with what the events must lead to."""
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
        """The end of what the workers said."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in self._folder.glob("*.log"))

    def close(self) -> None:
        for process in self._workers.values():
            process.kill()
            process.join()
        if self._reader is not None:
            self._reader.close()
        if os.environ.get("EVERLEARN_SHOW_LOGS"):
            print(self.log())
