"""Simulates a month of a home, and prints what it takes each day: ``python -m benchmarks.month [--answers N]``.

A clock that goes from day to day drives the real stores and the cleaners of the agents' own wiring: SQLite, files,
MLflow. Each day brings answers with their journal rows and feedback, a drift check with a report for every 50 answers,
and trainings that leave a dataset, an adapter, a run folder with a copy of it and a validation; every second adapter is
rejected, and the others are promoted. No model runs, so files have the sizes of real ones. Kafka is not simulated: its
part is the bytes of the day's records for as long as topics keep them.

``--days 60 --feature-days 20`` shows the plateau that is reached once rows of the feature table go by age too.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import random
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from agents.delivery.outbox import Cause, Outbox
from agents.delivery.outcome import NOTHING, Outcome, Output
from agents.delivery.worker import Cleaner
from agents.promoter import changes
from agents.recorder.agent import Recorder
from agents.recorder.features import Fact
from agents.wiring.database import database_of
from agents.wiring.platform import common_cleaners
from infra.registry.mlflow import MlflowRegistry
from infra.settings import Settings
from infra.sizes import databases, size_of
from infra.sql.drift import SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from infra.sql.journal import SqlJournal
from infra.sql.migrate import migrate
from infra.sql.releases import SqlReleases
from infra.sql.retention import SqlRetention
from infra.sql.runs import SqlRunStore
from infra.training.datasets import FolderDatasets
from schemas.datasets import DATASET_ROW, DatasetRow
from schemas.drift import DRIFT_CHECK, DriftCheck, Finding
from schemas.envelope import Position, Received, Record, encode, new_context
from schemas.event import Event
from schemas.interactions import FeedbackGiven, InteractionRecorded
from schemas.learning import Window
from schemas.policies import KafkaSettings, RetentionPolicy
from schemas.questions import AnswerProduced, QuestionAsked, Source
from schemas.registry import AdapterRecord, AdapterState
from schemas.tasks import Task
from schemas.topics import LONGEST_KEPT_DAYS

E = TypeVar("E", bound=Event)
FIRST_DAY = datetime(2026, 1, 1, tzinfo=UTC)
TASK = "support"
NEWS = InteractionRecorded(answer_id="a", task=TASK, outcome="unrated", revision=1)
READERS = ("answerer", "recorder", "monitor", "trainer", "validator", "promoter")
"""The agents whose cleaners run. Those of the indexer need Milvus, and what they delete does not grow with answers."""
BATCH = 500
SHARE_RATED, SHARE_PENDING = 0.2, 0.005
ROWS_PER_CHECK = 50
REFERENCE = timedelta(hours=1)
"""The answers of the first hour say what is normal, for as long as the home lives."""
MOST_ROUNDS = 2000


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one day brings. Sizes are in bytes, as measured in a home that ran the demo."""

    answers: int = 10_000
    trainings: int = 2
    dataset_rows: int = 2000
    adapter_bytes: int = 10_000_000
    report_bytes: int = 60_000
    source_characters: int = 690
    sources: int = 4
    alarms: float = 0.02
    """The share of the drift checks that find drift."""


@dataclass
class Home:
    """A home whose clock is ours."""

    settings: Settings
    load: Load
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    promoted: list[str] = field(default_factory=list)
    suite_rows: int = 0

    def __post_init__(self) -> None:
        migrate(self.settings.sql_url())
        self.database = database_of(self.settings)
        self.features = SqlFeatureTable(self.database)
        self.checks, self.runs = SqlDriftChecks(self.database), SqlRunStore(self.database)
        self.releases, self.suite = SqlReleases(self.database), SqlRetention(self.database)
        self.datasets = FolderDatasets(self.settings.datasets_folder, self.database)
        self.registry = MlflowRegistry(self.settings.registry_url(), self.settings.registry_folder)
        self.registry.prepare()
        self.cleaners = cleaners_of(self.settings)
        self.kafka, self._now = Counter(), FIRST_DAY
        self._recorder = Recorder(self.features)
        self._outboxes = {
            agent: Outbox(
                agent, database=self.database, journal=SqlJournal(self.database), runs=self.runs, publisher=self.kafka,
                clock=lambda: self._now,
            )
            for agent in ("answerer", "recorder", "monitor", "promoter")
        }  # fmt: skip

    def close(self) -> None:
        self.registry.close()
        self.database.close()

    def live(self, day: datetime) -> None:
        """Brings one day's answers, checks and trainings."""
        for start in range(0, self.load.answers, BATCH):
            number = min(BATCH, self.load.answers - start)
            asyncio.run(self._answer(day + timedelta(seconds=86_400 * start / self.load.answers), number))
        checks = self.load.answers // ROWS_PER_CHECK
        for number in range(checks):
            self._check(day + timedelta(seconds=86_400 * (number + 1) / (checks + 1)))
        for number in range(self.load.trainings):
            self._train(day + timedelta(hours=20 * (number + 1) / self.load.trainings))

    def clean(self, now: datetime) -> dict[str, int]:
        """Does what the janitors do until nothing is too old; returns how much each cleaner deleted."""
        deleted: dict[str, int] = {}
        for cleaner in self.cleaners:
            for _ in range(MOST_ROUNDS):
                count = cleaner.clean(now)
                deleted[cleaner.name] = deleted.get(cleaner.name, 0) + count
                if not count:
                    break
            else:
                raise RuntimeError(f"{cleaner.name} still deletes after {MOST_ROUNDS} rounds")
        return deleted

    def sizes(self) -> dict[str, int]:
        """Returns the bytes of each part of the home."""
        home = self.settings.home
        return {
            "SQL": size_of(*databases(home / "everlearn.db")),
            "registry": size_of(*databases(home / "registry.db"), self.settings.registry_folder),
            "reports": size_of(self.settings.reports_folder),
            "adapters": size_of(self.settings.adapters_folder),
            "datasets": size_of(self.settings.datasets_folder),
            "run folders": size_of(home / "work" / "runs"),
        }

    async def _answer(self, at: datetime, number: int) -> None:
        """Records a batch of answers, as the four agents on their way do."""
        self._now = at
        answered: list[tuple[Cause, Outcome]] = []
        facts: list[Received[Fact]] = []
        for _ in range(number):
            answer = self._made_up()
            asked = self._sent(QuestionAsked(question_id=answer.answer_id, task=TASK, text=answer.question), "/app")
            answered.append((_cause(asked), Outcome(outputs=(Output(event=answer),))))
            facts.append(_received(answer, "/everlearn/answerer", at))
            if self.chance.random() < SHARE_RATED:
                facts.append(self._sent(FeedbackGiven(answer_id=answer.answer_id, rating="up", user="u"), "/app"))
            if self.chance.random() < SHARE_PENDING:
                never = FeedbackGiven(answer_id=f"never-{uuid.uuid4()}", rating="down", user="u")
                facts.append(self._sent(never, "/app"))
        await self._settle("answerer", answered)
        outcomes = await self._recorder.record(facts)
        await self._settle("recorder", [(_cause(fact), outcome) for fact, outcome in zip(facts, outcomes, strict=True)])
        told = [(_cause(_received(NEWS, "/everlearn/recorder", at)), NOTHING) for _ in facts]
        for agent in ("monitor", "promoter"):
            await self._settle(agent, told)

    def _sent(self, event: E, source: str) -> Received[E]:
        """Counts what an event of a client takes in Kafka."""
        received = _received(event, source, self._now)
        self.kafka.count([encode(event, received.context)])
        return received

    async def _settle(self, agent: str, work: Sequence[tuple[Cause, Outcome]]) -> None:
        await self._outboxes[agent].settle([cause for cause, _ in work], [outcome for _, outcome in work], {})

    def _made_up(self) -> AnswerProduced:
        load = self.load
        return AnswerProduced(
            answer_id=str(uuid.uuid4()),
            task=TASK,
            question="q" * 80,
            text="t" * 300,
            user=f"user-{self.chance.randrange(5000)}",
            sources=tuple(
                Source(document_id=f"doc-{n}", chunk_id=f"doc-{n}/v1/{n}", score=0.5, text="s" * load.source_characters)
                for n in range(load.sources)
            ),
            base_model="smollm2-135m-instruct",
            engine="transformers",
            release_sequence=1,
        )

    def _check(self, at: datetime) -> None:
        """Makes a drift check: a run with its folder, a row and a report."""
        check_id = str(uuid.uuid4())
        reference = Window(start=FIRST_DAY, end=FIRST_DAY + REFERENCE, rows=400)
        alarms = self.chance.random() < self.load.alarms
        check = DriftCheck(
            check_id=check_id, task=TASK, checked_at=at, baseline=1, reference=reference,
            current=Window(start=at - timedelta(hours=6), end=at, rows=200),
            findings=tuple(
                Finding(kind=kind, p_value=0.5, effect=0.01, flagged=alarms, detail="d" * 120)
                for kind in ("questions", "outcomes", "failures", "sources")
            ),
            verdict="outcomes" if alarms else None, report_uri=f"file:///{check_id}.html", figures={"rated": 20.0},
        )  # fmt: skip
        folder = self.settings.reports_folder / "drift" / TASK
        write(folder / f"{check_id}.html", self.load.report_bytes, at)
        write(folder / f"{check_id}.json", self.load.report_bytes // 10, at)
        self._run("monitor", check_id, "check", {"check": DRIFT_CHECK.dump_python(check, mode="json")}, at)
        with self.database.transaction():
            self.checks.add(check)

    def _train(self, at: datetime) -> None:
        """Trains, validates and perhaps promotes an adapter."""
        rows = [
            DatasetRow(
                row_id=str(uuid.uuid4()), input="i" * 80, output="o" * 60, origin="correction",
                origin_id=str(uuid.uuid4()), at=at, split="train" if number % 7 else "holdout",
            )
            for number in range(self.load.dataset_rows)
        ]  # fmt: skip
        dataset = self.datasets.put(TASK, rows, created_at=at)
        adapter_id, run_id = uuid.uuid4().hex, str(uuid.uuid4())
        content = self.load.adapter_bytes
        self._run("trainer", run_id, "train", {"adapter_id": adapter_id}, at, content)
        write(self.settings.adapters_folder / adapter_id / "adapter_model.safetensors", content, at)
        write(self.settings.adapters_folder / adapter_id / "probes.json", 4000, at)
        record = AdapterRecord(
            adapter_id=adapter_id, task=TASK, base_model="m", dataset_id=dataset.dataset_id, run_id=run_id,
            size_bytes=content, created_at=at, metrics={"loss": 0.5, "seconds": 60.0, "tokens": 1e5},
        )  # fmt: skip
        self.registry.log_training(record, {"epochs": 3, "rank": 8, "learning_rate": 1e-3}, record.metrics)
        self.registry.register(record)
        state: AdapterState = "rejected" if self.chance.random() < 0.5 else "validated"
        self.registry.judge(adapter_id, state=state, scores={"exact_match": 0.8}, reasons=("r",), report_uri=None)
        write(self.settings.reports_folder / "validation" / TASK / f"{adapter_id}.html", 40_000, at)
        judged = [DATASET_ROW.dump_python(row, mode="json") for row in rows[:200]] if state == "validated" else []
        self._run("validator", str(uuid.uuid4()), "validate", {"rows": judged}, at)
        if state == "validated":
            with self.database.transaction():
                self.suite_rows += len(judged)
                self.suite.add(TASK, rows[: len(judged)], dataset.dataset_id, at)
            self._promote(adapter_id, at)

    def _promote(self, adapter_id: str, at: datetime) -> None:
        with self.database.transaction():
            release = changes.with_earlier(self.releases.current(TASK), self.releases.history(TASK))
            rollbacks = self.settings.retention.rollbacks
            change = changes.promote(release, adapter_id, reason="by the month", at=at, rollbacks=rollbacks)
            self.releases.change(change.release, event_type=change.kind.type, cause=None, at=at)
        self.registry.set_aliases(TASK, champion=adapter_id, challenger=None)
        self.promoted.append(adapter_id)

    def _run(
        self, agent: str, run_id: str, kind: str, result: dict[str, object], at: datetime, adapter_bytes: int = 0
    ) -> None:
        """Adds a run that ended, with its folder."""
        with self.database.transaction():
            self.runs.add(agent, run_id, kind, {"task": TASK}, {"id": run_id}, at)
        claim = self.runs.claim(agent, "w", now=at, lease_seconds=60)
        if claim is None or claim.run_id != run_id:
            raise RuntimeError(f"the run {run_id} was not claimed")
        with self.database.transaction():
            self.runs.finish(run_id, claim.attempt, state="done", result=result, now=at)
        folder = self.settings.home / "work" / "runs" / run_id
        write(folder / "result.json", len(json.dumps(result)), at)
        if adapter_bytes:
            write(folder / "adapter_model.safetensors", adapter_bytes, at)


def cleaners_of(settings: Settings) -> list[Cleaner]:
    """Returns the cleaners of the agents, as their workers are built, without those that need Kafka."""
    found = []
    for agent in READERS:
        own = importlib.import_module(f"agents.wiring.{agent}").build(settings).cleaners if agent != "answerer" else ()
        found += [*common_cleaners(agent, settings), *own]
    return [each for each in found if each.name != "fleet"]


def write(path: Path, size: int, at: datetime) -> None:
    """Writes a file of a size, changed at a time, as its folder is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(min(size, 4096)).ljust(size, b"."))
    for each in (path, path.parent):
        os.utime(each, (at.timestamp(), at.timestamp()))


class Counter:
    """Stands for Kafka: confirms every record, and counts its bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def count(self, records: Sequence[Record]) -> None:
        self.bytes += sum(map(stored_bytes, records))

    async def publish(self, records: Sequence[Record]) -> None:
        self.count(records)

    async def close(self) -> None: ...


def _received(event: E, source: str, at: datetime) -> Received[E]:
    return Received(event=event, context=new_context(source, now=at), position=Position("topic", 0, 0))


def _cause(received: Received[E]) -> Cause:
    return Cause(identity=received.identity, context=received.context)


def stored_bytes(record: Record) -> int:
    """Returns what a record takes in Kafka: key, value, headers, and about 20 bytes around them."""
    headers = sum(len(name) + len(value) + 4 for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers + 20


@dataclass(frozen=True, kw_only=True)
class Day:
    """What the home took at the end of a day, after the janitors."""

    number: int
    sizes: dict[str, int]
    kafka: int
    deleted: dict[str, int]
    seconds: float

    @property
    def total(self) -> int:
        return sum(self.sizes.values()) + self.kafka


def simulate(home: Home, days: int) -> Iterator[Day]:
    """Lives so many days; yields each."""
    kafka: list[int] = []
    for number in range(days):
        began, before = time.perf_counter(), home.kafka.bytes
        day = FIRST_DAY + timedelta(days=number)
        home.live(day)
        kafka.append(home.kafka.bytes - before)
        deleted = home.clean(day + timedelta(days=1))
        yield Day(
            number=number + 1,
            sizes=home.sizes(),
            kafka=sum(kafka[-LONGEST_KEPT_DAYS:]),
            deleted=deleted,
            seconds=time.perf_counter() - began,
        )


def bound(load: Load, policy: RetentionPolicy, days: int) -> dict[str, float]:
    """Returns the most bytes that each part of a home may take after so many days, from what one thing takes."""

    def kept(of_policy: float) -> float:
        return min(float(days), of_policy + 1)

    checks, events = load.answers / ROWS_PER_CHECK, load.answers * (1 + SHARE_RATED + SHARE_PENDING)
    content = load.sources * (load.source_characters + 250) + 2500
    alarms = min(1.0, 3 * load.alarms)
    trainings = load.trainings * kept(policy.adapter_days) + policy.rollbacks + 2
    return {
        "SQL": load.answers * kept(policy.feature_days) * content
        + (4 * load.answers + 3 * (events - load.answers)) * kept(policy.journal_days) * JOURNAL_BYTES
        + checks * (kept(policy.run_days) + kept(policy.check_days)) * CHECK_BYTES
        + load.trainings * (kept(policy.run_days) + days) * SUITE_BYTES
        + 10_000_000,
        "registry": 8_000_000 + load.trainings * days * REGISTRY_BYTES,
        "reports": checks
        * 1.1
        * load.report_bytes
        * (kept(policy.report_days) + alarms * kept(policy.alarm_report_days))
        + load.trainings * kept(policy.alarm_report_days) * 60_000
        + 5_000_000,
        "adapters": trainings * (load.adapter_bytes + 10_000),
        "datasets": trainings * load.dataset_rows * DATASET_ROW_BYTES,
        "run folders": (checks * 10_000 + load.trainings * (load.adapter_bytes + 100_000))
        * kept(policy.run_folder_days),
        "Kafka": load.answers * kept(LONGEST_KEPT_DAYS) * (content + 2500),
    }


JOURNAL_BYTES = 700
"""A row of the journal with its two indexes."""
CHECK_BYTES = 6_000
"""The row of a drift check, or of its run, with its JSON."""
SUITE_BYTES = 150_000
"""The rows that an adapter is judged on: once in its validation's result, once in the retention suite."""
REGISTRY_BYTES = 30_000
"""MLflow's rows of a training and its adapter."""
DATASET_ROW_BYTES = 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--answers", type=int, default=10_000, help="a day")
    parser.add_argument("--trainings", type=int, default=2, help="a day")
    parser.add_argument("--feature-days", type=float, default=RetentionPolicy().feature_days)
    given = parser.parse_args()
    load = Load(answers=given.answers, trainings=given.trainings)
    pending = min(given.feature_days, RetentionPolicy().pending_days)
    policy = RetentionPolicy(feature_days=given.feature_days, pending_days=pending)
    with tempfile.TemporaryDirectory(prefix="everlearn-month-") as folder:
        home = Home(settings_in(Path(folder), policy), load)
        print_days(home, given.days)
        home.close()


def settings_in(home: Path, policy: RetentionPolicy) -> Settings:
    """Returns the settings of a home without a stack."""
    return Settings(
        home=home,
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:9"),
        retention=policy,
        tasks={TASK: Task(name=TASK, instruction="Answer.", retrieval=True)},
    )


def print_days(home: Home, days: int) -> None:
    """Prints a line for each day, and the bounds at the end. Raises RuntimeError where a bound does not hold."""
    parts = ("SQL", "registry", "reports", "adapters", "datasets", "run folders", "Kafka")
    print("MB after each day, once the janitors have been there")
    print("".join(f"{name:>12}" for name in ("day", *parts, "total", "deleted", "seconds")))
    for day in simulate(home, days):
        sizes = {**day.sizes, "Kafka": day.kafka}
        cells = [f"{day.number:>12}", *(f"{sizes[name] / 1e6:>12,.1f}" for name in parts), f"{day.total / 1e6:>12,.1f}"]
        print("".join([*cells, f"{sum(day.deleted.values()):>12,}", f"{day.seconds:>12.1f}"]), flush=True)
        most = bound(home.load, home.settings.retention, day.number)
        over = [name for name in parts if sizes[name] > most[name]]
        if over:
            raise RuntimeError(f"over the bound on day {day.number}: {', '.join(over)}")
    print(
        "".join(
            [
                f"{'bound':>12}",
                *(f"{most[name] / 1e6:>12,.1f}" for name in parts),
                f"{sum(most.values()) / 1e6:>12,.1f}",
            ]
        )
    )


if __name__ == "__main__":
    main()
