"""The monitor as it really runs: from rows in SQL through a child process to published drift and a page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.delivery.outbox import Cause, Outbox
from agents.delivery.runs import Runner
from agents.delivery.worker import Worker
from agents.wiring.database import database_of
from agents.wiring.monitor import build
from infra.embedding.embedder import SentenceTransformerEmbedder
from infra.memory.kafka import MemoryKafka
from infra.milvus.stores import MilvusChunks
from infra.settings import Settings, load
from infra.sql.documents import SqlDocuments
from infra.sql.drift import SqlDriftChecks
from infra.sql.features import SqlFeatureTable
from infra.sql.indexes import SqlIndexes
from infra.sql.journal import SqlJournal
from infra.sql.migrate import migrate
from infra.sql.runs import SqlRunStore
from schemas.envelope import EventContext, decode, identity
from schemas.errors import ConfigurationError
from schemas.features import DocumentState
from schemas.learning import DriftCheckRequested, DriftDetected
from schemas.retrieval import Chunk
from schemas.topics import TOPICS
from tests.agents.monitor.room import Room
from tests.agents.monitor.rows import START, row
from tests.fixtures.indexes import index

TOML = """
[monitor]
reference_rows = 40
every_rows = 8
[model]
threads = 1
[tasks.routing]
instruction = "Route."
labels = ["orders", "returns"]
[tasks.routing.monitor] # both the worker and the check's child process must heed it
current_rows = 24
"""

in_a_child = pytest.mark.usefixtures("sentence_embedder")
"""Child processes load the model too. The fixture makes sure that it is there, and marks the tests as not fast."""


class RealMonitor:
    """A monitor's worker on real SQL, with Kafka in memory and its runs in real child processes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.now = datetime.now(UTC)
        self.worker: Worker = build(settings)
        database = database_of(settings)
        self.features = SqlFeatureTable(database)
        self.checks = SqlDriftChecks(database)
        self.kafka = MemoryKafka()
        runs = SqlRunStore(database)
        self.outbox = Outbox(
            "monitor",
            database=database,
            journal=SqlJournal(database),
            runs=runs,
            publisher=self.kafka,
            clock=lambda: self.now,
        )
        kinds = {kind.name: kind for kind in self.worker.runs}
        self.runner = Runner(
            self.outbox, runs, kinds, worker="w1", folder=settings.home / "work" / "runs", clock=lambda: self.now
        )

    async def tick(self) -> None:
        context = EventContext(id=f"tick-{self.now.timestamp()}", source="/test", time=self.now)
        cause = Cause(identity=identity(context), context=context)
        await self.outbox.settle([cause], [await self.worker.ticks[0].handle(self.now)], {})

    async def request(self) -> None:
        received = Room().received(DriftCheckRequested(task="routing"))
        cause = Cause(identity=received.identity, context=received.context)
        await self.outbox.settle([cause], await self.worker.dispatch()([received]), {})

    def answer(self, count: int, start: int, **fields: object) -> None:
        for number in range(start, start + count):
            self.features.put_interaction(row(number, **fields))  # type: ignore[arg-type]  # fields of a row


@pytest.fixture
def monitor(tmp_path: Path, models_folder: Path) -> Iterator[RealMonitor]:
    (tmp_path / "everlearn.toml").write_text(TOML.replace("[model]\n", f'[model]\nfolder = "{models_folder}"\n'))
    settings = load(home=tmp_path, environ={})
    migrate(settings.sql_url())
    yield RealMonitor(settings)
    database_of(settings).close()


def test_it_reads_and_follows_the_topics_that_the_table_gives_it(monitor: RealMonitor):
    assert monitor.worker.agent == "monitor"
    assert set(monitor.worker.topics) == {topic.name for topic in TOPICS if "monitor" in topic.readers}
    followed = {each.topic for each in monitor.worker.followers}
    assert followed == {topic.name for topic in TOPICS if "monitor" in topic.followers}


def test_more_flags_than_windows_are_refused(tmp_path: Path):
    (tmp_path / "everlearn.toml").write_text("[monitor]\nflags = 4\nof = 3\n")
    with pytest.raises(ConfigurationError, match=r"flags = 4 of 3 windows can never be: set flags to 3 or less"):
        build(load(home=tmp_path, environ={}))


def test_the_worker_pays_for_none_of_the_childs_libraries():
    code = "import sys, agents.wiring.monitor; print({'torch', 'scipy', 'pandas', 'evidently'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@in_a_child
async def test_answers_that_got_worse_are_told_with_a_report(monitor: RealMonitor):
    monitor.answer(40, 0, question="Where is my parcel with the new paddle?")
    for number in range(40, 80, 2):
        monitor.answer(1, number, question="Do the blades of my ice skates rust?", outcome="corrected")
        monitor.answer(1, number + 1, question="Where is my parcel with the new paddle?")
    await monitor.tick()
    assert await monitor.runner.work()

    [check] = monitor.checks.recent("routing", 5)
    [record] = monitor.kafka.topic("drift.v1")
    event, context = decode(record.topic, record.value, record.headers, now=datetime.now(UTC))
    assert isinstance(event, DriftDetected)
    assert (event.kind, event.remedy, event.report_uri) == ("outcomes", "retrain", check.report_uri)
    assert (check.verdict, check.told_at, context.time) == ("outcomes", check.checked_at, check.checked_at)
    assert {each.kind: each.flagged for each in check.findings}["questions"]
    page = monitor.settings.reports_folder / "drift" / "routing" / f"{check.check_id}.html"
    assert page.as_uri() == check.report_uri
    assert "Do the blades of my ice skates rust?" in page.read_text(encoding="utf-8")
    assert '<iframe class="el-charts"' in page.read_text(encoding="utf-8")
    assert page.with_suffix(".json").is_file()


@in_a_child
async def test_corrections_that_newer_documents_agree_with_call_for_the_index(
    monitor: RealMonitor, milvus_uri: str, unique_index: str, sentence_embedder: SentenceTransformerEmbedder
):
    with (monitor.settings.home / "everlearn.toml").open("a") as file:
        file.write(
            f'[tasks.support]\ninstruction = "Answer."\nretrieval = true\n[tasks.support.monitor]\ncurrent_rows = 24\n'
            f'[milvus]\nuri = "{milvus_uri}"\n'
        )
    monitor = RealMonitor(load(home=monitor.settings.home, environ={}))
    text = "A return is free for 30 days. Ask at the counter."
    made = index(unique_index, model=sentence_embedder.model, dimension=384)
    chunk = Chunk(chunk_id="c", tenant="default", document_id="terms", version="2", ordinal=0, text=text)
    state = DocumentState(
        tenant="default", document_id="terms", version="2", content_hash="h", chunk_count=1,
        embedding_model=sentence_embedder.model, title=None, uri=None, event_id="e",
        submitted_at=START + timedelta(hours=1),
    )  # fmt: skip
    database = database_of(monitor.settings)
    with database.transaction():
        SqlIndexes(database).add(made)
        SqlDocuments(database).put(state)
    store = MilvusChunks(milvus_uri, None, unique_index, 384)
    store.prepare()
    store.upsert([chunk], sentence_embedder.embed([text]))
    asked = {"task": "support", "question": "How long is a return free?", "answer": "14 days", "score": 0.8}
    monitor.answer(40, 0, **asked)
    monitor.answer(40, 40, outcome="corrected", correction="It is 30 days.", **asked)
    await monitor.tick()
    assert await monitor.runner.work()
    store.close()

    [check] = monitor.checks.recent("support", 5)
    assert (check.verdict, check.remedy) == ("outcomes", "index"), check.reasons
    assert "corrections agree with documents that are newer than the answers (terms)" in check.reasons[1]


@in_a_child
async def test_a_requested_check_of_too_few_answers_says_so(monitor: RealMonitor):
    monitor.answer(7, 0)
    await monitor.request()
    assert await monitor.runner.work()
    [check] = monitor.checks.recent("routing", 5)
    assert (check.verdict, check.findings, check.reference.rows, check.report_uri) == (None, (), 7, None)
    assert check.reasons == (
        "too few answers to compare: 7 so far, 64 are needed (40 for the reference, 24 to compare with it)",
    )
    assert monitor.kafka.topic("drift.v1") == []


@in_a_child
async def test_a_check_whose_child_dies_three_times_is_a_row_that_says_why(monitor: RealMonitor):
    await monitor.request()
    (monitor.settings.home / "everlearn.toml").write_text("[tasks]\n")
    for _ in range(3):
        assert await monitor.runner.work()
        monitor.now += timedelta(minutes=1)
    [check] = monitor.checks.recent("routing", 5)
    assert (check.verdict, check.findings) == (None, ())
    assert "the check could not be made: " in check.reasons[0]
    assert "there is no task routing: add it to everlearn.toml" in check.reasons[0]
    assert monitor.kafka.topic("drift.v1") == []
