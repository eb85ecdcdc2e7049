"""Fills the disk of each store in turn while events flow: ``python -m benchmarks.disk_full [--store NAME]``.

Each store of one running home has a small file system of its own, and one more home has all of them on one. While a
store's disk is full, events go on being published; a publisher that Kafka refuses tries again with the same event.
Then there is room again, and each event must have exactly one outcome. The table has, for each store, the events, how
many were lost, doubled or dead-lettered, the workers that are not ready in the end, the deaths of processes, the
seconds from room to the last outcome, and what ``everlearn status`` said of the cause. Needs the right to mount tmpfs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.small_disk import Balloon, CannotMount, small_disk
from infra.kafka import RecordPublisher, kafka_connection
from infra.kafka.reader import RecordReader
from infra.local.supervisor import Supervisor
from infra.milvus.stores import MilvusStores
from infra.settings import load
from infra.sql.database import Database
from infra.sql.features import SqlFeatureTable
from infra.sql.indexes import SqlIndexes
from schemas.documents import DocumentIndexed, DocumentSubmitted
from schemas.envelope import Record, decode, encode, new_context
from schemas.errors import EverlearnError, Unavailable
from schemas.event import Event
from schemas.interactions import ExampleSubmitted, FeedbackGiven, InteractionRecorded
from schemas.learning import AdapterRejected, AdapterTrained, AdapterValidated, TrainingDeclined, TrainingRequested
from schemas.questions import AnswerProduced, QuestionAsked
from schemas.topics import TOPICS, dead_letter_topic

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("EVERLEARN_CACHE") or ROOT / ".cache")
SOURCE = "/benchmarks/disk-full"
STORES = {"kafka": 96, "milvus": 48, "sql": 48, "registry": 48, "datasets": 24, "adapters": 64, "work": 96, "run": 24}
"""The folders of a home that get a file system of their own, and its megabytes."""
ALL_MB = 512
RECOVERY_SECONDS = 240.0
LEARNING_SECONDS = 600.0
"""How long a training and its validation may take after there is room, beside other work on two cores."""
LEARNING = ("registry", "datasets", "adapters", "work", "everything")
"""The stores that a training writes to."""
CONFIGURATION = """\
[sql]
url = "sqlite:///{home}/sql/everlearn.db"

[registry]
url = "sqlite:///{home}/registry/registry.db"

[model]
folder = "{models}"
threads = 1

[trainer]
minimum_rows = 20
epochs = 1

[validator]
current_rows = 20
retention_rows = 20

[tasks.routing]
instruction = "Which team handles this message?"
metric = "exact_match"
labels = ["delivery", "returns"]
max_tokens = 3
"""


class Traffic:
    """Publishes events until it is stopped, each until Kafka has confirmed it."""

    def __init__(self, home: Path, *, questions: bool) -> None:
        self._config = kafka_connection(load(home))
        self._questions = questions
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._publisher: RecordPublisher | None = None
        self._number = 0
        self.confirmed: dict[str, Event] = {}
        """The events that Kafka has, by id."""
        self.refusals = 0

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._number += 1
            for event in self._events():
                self.publish(event)
            self._stop.wait(0.2)

    def _events(self) -> Iterator[Event]:
        name = uuid.uuid4().hex
        yield DocumentSubmitted(
            document_id=name, text=f"Parcel {name} takes three days.\n" * 20, submitted_at=datetime.now(UTC)
        )
        yield FeedbackGiven(answer_id=f"none-{name}", rating="up")
        if self._questions and self._number % 5 == 0:
            yield QuestionAsked(question_id=f"question-{name}", text="Where is my parcel?", task="routing")

    def publish(self, event: Event) -> str:
        """Publishes the event, again and again with the same id until Kafka has it, and returns the id."""
        context = new_context(SOURCE, now=datetime.now(UTC))
        record = encode(event, context)
        while True:
            try:
                self._publisher = self._publisher or RecordPublisher(self._config, delivery_seconds=10.0)
                self._publisher.publish([record])
                self.confirmed[context.id] = event
                return context.id
            except Unavailable:
                self.refusals += 1
                self._close()
                time.sleep(0.5)

    def _close(self) -> None:
        """Ends the publisher: kafka-python's sends nothing any more once it has given a batch up."""
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None


@dataclass
class Found:
    """What the topics hold of the events that were published."""

    outcomes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The ids of the outcomes of each event's id."""
    bytes_of: dict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    ended_trainings: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    dead_letters: int = 0


OUTCOMES: dict[type[Event], tuple[type[Event], ...]] = {
    DocumentSubmitted: (DocumentIndexed,),
    FeedbackGiven: (InteractionRecorded,),
    QuestionAsked: (AnswerProduced,),
    TrainingRequested: (AdapterTrained, TrainingDeclined),
    ExampleSubmitted: (),
}
ENDS_OF_TRAINING = (TrainingDeclined, AdapterValidated, AdapterRejected)
OF_INTEREST = tuple({each for kinds in OUTCOMES.values() for each in kinds} | set(ENDS_OF_TRAINING))


class Observer:
    """Reads all topics from their beginning, a little at a time."""

    def __init__(self, home: Path) -> None:
        self._config = kafka_connection(load(home))
        letters = [dead_letter_topic(topic.name, agent) for topic in TOPICS for agent in topic.readers]
        self._letters = frozenset(letters)
        read = [topic.name for topic in TOPICS if any(event in OF_INTEREST for event in topic.events)]
        self._topics = [*read, *letters]
        self.found = Found()
        self._adapters: dict[str, str] = {}
        self._reader: RecordReader | None = None

    def look(self) -> Found:
        """Reads everything anew: a reader does not outlive its broker."""
        self.found = Found()
        with RecordReader(self._config, self._topics) as reader:
            for record in reader.until_end():
                self._take(record.position.topic, record.value, record.headers)
        return self.found

    def _take(self, topic: str, value: bytes | None, headers: Sequence[tuple[str, bytes]]) -> None:
        if topic in self._letters:
            self.found.dead_letters += 1
            return
        event, context = decode(topic, value, headers, now=datetime.now(UTC))
        if not isinstance(event, OF_INTEREST):
            return
        identity = f"{context.source} {context.id}"
        self.found.bytes_of[identity].add(value or b"")
        cause = getattr(event, "cause", None) or context.causation_id
        if cause is not None and not isinstance(event, (AdapterValidated, AdapterRejected)):
            self.found.outcomes[cause].add(identity)
        if isinstance(event, AdapterTrained):
            self._adapters[event.adapter_id] = event.cause or ""
        if isinstance(event, TrainingDeclined):
            self.found.ended_trainings[event.cause or ""].add(identity)
        if isinstance(event, (AdapterValidated, AdapterRejected)):
            self.found.ended_trainings[self._adapters.get(event.adapter_id, "")].add(identity)


def missing(found: Found, confirmed: dict[str, Event]) -> list[str]:
    """The ids of events without an outcome."""
    return [
        event_id for event_id, event in confirmed.items() if OUTCOMES[type(event)] and not found.outcomes.get(event_id)
    ]


def doubled(found: Found, confirmed: dict[str, Event]) -> int:
    """How many events have several outcomes, or an outcome that was published with different bytes."""
    several = sum(len(found.outcomes.get(event_id, ())) > 1 for event_id in confirmed)
    return several + sum(len(each) > 1 for each in found.bytes_of.values())


def effects(home: Path, confirmed: dict[str, Event]) -> tuple[int, int]:
    """How many documents and ratings are not in the stores, and how many are in them more than once."""
    settings = load(home)
    database = Database(settings.sql_url())
    features, stores = SqlFeatureTable(database), MilvusStores.from_settings(settings)
    (index,) = SqlIndexes(database).active()
    chunks = stores.of(index)
    times = []
    for event in confirmed.values():
        if isinstance(event, DocumentSubmitted):
            times.append(len(chunks.versions(event.tenant, event.document_id)))
        elif isinstance(event, FeedbackGiven):
            row = features.get(event.answer_id)
            times.append(row.revision if row is not None else 0)
    stores.close()
    database.close()
    return sum(each == 0 for each in times), sum(each > 1 for each in times)


class Deaths:
    """Counts the processes of a home that were started again."""

    def __init__(self, home: Path) -> None:
        self._supervisor = Supervisor(home / "run")
        self.seen: dict[str, set[int]] = defaultdict(set)
        self.silent = 0

    def look(self) -> None:
        try:
            for process in self._supervisor.processes():
                if process.pid is not None:
                    self.seen[process.name].add(process.pid)
        except EverlearnError:
            self.silent += 1

    def counts(self) -> Counter[str]:
        return Counter({name: len(pids) - 1 for name, pids in self.seen.items() if len(pids) > 1})


def command(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs ``everlearn`` in a process of its own."""
    line = [sys.executable, "-m", "agents", "--home", str(home), *words]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)


def status(home: Path) -> dict[str, object]:
    """What ``everlearn status`` reports, whether the stack is ready or not."""
    done = command(home, "status", "--json")
    return dict(json.loads(done.stdout)) if done.stdout else {"problem": done.stderr}


def experiment(home: Path, store: str, disk: Path, seconds: float, *, questions: bool, learning: bool) -> None:
    """Fills the disk for so long while events flow, makes room, and prints the row."""
    deaths, observer = Deaths(home), Observer(home)
    deaths.look()
    causes: Counter[str] = Counter()
    letters_before = observer.look().dead_letters
    with Traffic(home, questions=questions) as traffic:
        time.sleep(5)
        if learning:
            requests = [traffic.publish(TrainingRequested(task="routing", reason=store))]
            time.sleep(3)
        else:
            requests = []
        with Balloon(disk):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                deaths.look()
                found = status(home)
                causes.update(said(found))
                time.sleep(2)
        room_at = time.monotonic()
        time.sleep(5)
    print(f"  {store}: room again after {seconds:.0f} s; {traffic.refusals} refusals", file=sys.stderr, flush=True)
    left: list[str] = ["?"]
    ready = False
    unjudged = requests
    took: float | None = None
    longest = LEARNING_SECONDS if learning else RECOVERY_SECONDS
    while time.monotonic() < room_at + longest and (took is None or unjudged):
        deaths.look()
        with contextlib.suppress(EverlearnError):
            found_now = observer.look()
            left = missing(found_now, traffic.confirmed)
            unjudged = [each for each in requests if not found_now.ended_trainings.get(each)]
        state = status(home)
        ready = bool(state["ready"])
        # Trainings take minutes. The events beside them do not wait for them.
        if took is None and ready and not set(left) - set(requests):
            took = time.monotonic() - room_at
        time.sleep(1)
    found_now = observer.found
    lost_effects, doubled_effects = effects(home, traffic.confirmed)
    cells = [
        store,
        len(traffic.confirmed),
        len({*left, *unjudged}) + lost_effects,
        doubled(found_now, traffic.confirmed) + doubled_effects,
        found_now.dead_letters - letters_before,
        0 if ready else [each["worker"] for each in state["workers"] if not each["ready"]],  # type: ignore[attr-defined]
        sum(deaths.counts().values()),
        f"more than {longest:.0f}" if took is None else f"{took:.0f}",
        "; ".join(each for each, _ in causes.most_common(3)),
    ]
    print("| " + " | ".join(str(each) for each in cells) + " |", flush=True)
    if deaths.counts() or deaths.silent:
        print(f"  deaths: {dict(deaths.counts())}, supervisor silent {deaths.silent} times", file=sys.stderr)
    if left:
        lost = Counter(type(traffic.confirmed[each]).__name__ for each in left if each in traffic.confirmed)
        print(f"  without outcome: {dict(lost)}", file=sys.stderr)


def said(found: dict[str, object]) -> list[str]:
    """What status says of a cause: the problem, and the workers' details."""
    texts = [str(found["problem"])] if found.get("problem") else []
    workers: Any = found.get("workers", [])
    texts += [f"{worker['worker']}: {worker['detail']}" for worker in workers if worker["detail"]]
    return [each[:200] for each in texts]


@contextmanager
def running(home: Path, workers: str) -> Iterator[None]:
    done = command(home, "up", "--detach", "--workers", workers)
    if done.returncode != 0:
        sys.exit(done.stderr)
    try:
        yield
    finally:
        command(home, "down")


def prepare(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "everlearn.toml").write_text(CONFIGURATION.format(home=home, models=CACHE / "models"))


def submit_examples(home: Path, store: str) -> None:
    """Submits new examples, because the same ones would give the same adapter, which is judged once."""
    with RecordPublisher(kafka_connection(load(home))) as publisher:
        records: list[Record] = []
        for number in range(60):
            team = ("delivery", "returns")[number % 2]
            example = ExampleSubmitted(task="routing", input=f"Message {number} of {store} about {team}", output=team)
            records.append(encode(example, new_context(SOURCE, now=datetime.now(UTC))))
        publisher.publish(records)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", action="append", choices=[*STORES, "everything"])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a disk stays full")
    parser.add_argument("--workers", default="quantizer=0")
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    chosen = arguments.store or [*STORES, "everything"]
    questions = "answerer=0" not in arguments.workers
    learns = "trainer=0" not in arguments.workers
    print("| disk of | events | lost | doubled | dead letters | not ready | deaths | seconds to recover | told |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with contextlib.ExitStack() as opened:
        folder = arguments.keep or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="disk-full-")))
        try:
            if single := [each for each in chosen if each != "everything"]:
                home = folder / "home"
                with contextlib.ExitStack() as mounts:
                    disks = {name: mounts.enter_context(small_disk(home / name, size)) for name, size in STORES.items()}
                    prepare(home)
                    with running(home, arguments.workers):
                        for store in single:
                            submit_examples(home, store)
                            experiment(
                                home, store, disks[store], arguments.seconds, questions=questions,
                                learning=learns and store in LEARNING,
                            )  # fmt: skip
            if "everything" in chosen:
                with small_disk(folder / "one", ALL_MB) as disk:
                    home = disk / "home"
                    prepare(home)
                    with running(home, arguments.workers):
                        submit_examples(home, "everything")
                        experiment(home, "everything", disk, arguments.seconds, questions=questions, learning=learns)
        except CannotMount as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main()
