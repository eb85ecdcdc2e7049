"""Delivers every event three times in a shuffled order, and compares the final state with that of an undisturbed run.

The answerer, the recorder and the indexer handle the events with the real recipe of delivery, journal and tables in
SQLite. The engine, Milvus and Kafka are the in-memory twins, and the clock stands still, so that the same question has
the same answer. What depends on the order by its nature is not compared: revisions inside events, and the decisions of
the monitor and the promoter, which judge what they have seen so far.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Table, select

from agents.answerer.agent import Answerer
from agents.answerer.releases import LoadedAdapters, ServedReleases
from agents.delivery.deliver import Delivery
from agents.delivery.in_flight import InFlightTracker
from agents.delivery.outbox import Outbox
from agents.delivery.topic_ids import TopicIds
from agents.delivery.worker import Handlers, dispatcher
from agents.indexer.agent import Indexer
from agents.indexer.sweep import Sweeper
from agents.indexer.writing import IndexWriter
from agents.recorder.agent import Recorder
from infra.conversion import read_html
from infra.memory.adapters import MemoryAdapters
from infra.memory.embedder import MemoryEmbedder
from infra.memory.engine import MemoryEngine
from infra.memory.kafka import MemoryKafka
from infra.memory.milvus import MemoryChunks
from infra.memory.retriever import MemoryRetriever
from infra.sql import tables
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.features import SqlFeatureTable
from infra.sql.indexes import SqlIndexes, SqlVectors
from infra.sql.journal import SqlInFlightMarks, SqlJournal
from infra.sql.kafka_topics import SqlKnownTopics
from infra.sql.migrate import migrate
from infra.sql.runs import SqlRunStore
from schemas.delivery import Message
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.envelope import Position, Received, Record, decode, encode, new_context
from schemas.event import Event, JsonObject
from schemas.interactions import ExampleSubmitted, FeedbackGiven
from schemas.promotions import AdapterPromoted, AdapterRolledBack, CanaryStarted
from schemas.questions import QuestionAsked
from schemas.tasks import Task
from schemas.topics import BY_NAME, read_by
from tests.fixtures.indexes import Always, index

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=300)
TASKS = {name: Task(name=name, instruction="Name the team.", max_tokens=8) for name in ("routing", "mood", "lines")}
ADAPTERS = ("red", "green", "blue")
BATCH = 64
_Order = Callable[[Sequence[Record]], list[Record]]
COPIES = 3
COMPARED = (tables.interactions, tables.feedback, tables.examples, tables.documents)


def block(seed: int, events: int) -> JsonObject:
    """Runs both and returns the result. ``events``: how many are delivered, answers included, before the copies."""
    began = time.monotonic()
    chance = random.Random(seed)
    clients = _clients(chance, events)
    with tempfile.TemporaryDirectory(prefix="shuffled-") as folder:
        calm = _Fleet(Path(folder) / "calm")
        asyncio.run(calm.run(clients, lambda records: list(records)))
        wild = _Fleet(Path(folder) / "wild")
        asyncio.run(wild.run(clients, lambda records: _copied(records, chance)))
        expected, found = calm.state(), wild.state()
    differing = [part for part in expected.parts if expected.parts[part] != found.parts[part]]
    return {
        "kind": "shuffled",
        "seed": seed,
        "done": {"deliveries": wild.delivered},
        "events": calm.delivered,
        "lost": len(expected.outputs - found.outputs),
        "doubled": len(found.outputs - expected.outputs) + found.differing + len(differing),
        "dead_letters": found.dead_letters,
        "given_up": 0,
        "dead_workers": 0,
        "hash": found.digest,
        "found": [f"{part} differs from the undisturbed run" for part in differing],
        "seconds": round(time.monotonic() - began),
    }


@dataclass(frozen=True, kw_only=True)
class _State:
    parts: dict[str, str]
    """What must be the same in both runs: hashes by name."""
    outputs: frozenset[tuple[str, str]]
    """Topic and id of every event that was published."""
    differing: int
    """Ids that were published with different bytes."""
    dead_letters: int

    @property
    def digest(self) -> str:
        return _hash(sorted(self.parts.items()))


def _clients(chance: random.Random, events: int) -> list[Record]:
    """Returns what clients publish. Each round is a question, feedback, a document and an example; and an answer."""
    rounds = max(1, events // 5)
    records: list[Record] = []
    for number in range(rounds):
        at = START + timedelta(seconds=60 * number)
        task = chance.choice(list(TASKS))
        words = " ".join(chance.choices(("parcel", "refund", "late", "bill", "ski", "house", "rain"), k=8))
        asked = QuestionAsked(question_id=f"q{number}", task=task, text=f"{words} {number}", user=f"u{number % 300}")
        rated = FeedbackGiven(
            answer_id=f"q{chance.randrange(number + 1)}", rating=chance.choice(("up", "down")),
            correction=words if chance.random() < 0.3 else None, user=f"u{number % 300}",
        )  # fmt: skip
        document_id = f"d{chance.randrange(1 + rounds // 4)}"
        changed: Event = (
            DocumentWithdrawn(document_id=document_id, submitted_at=at)
            if chance.random() < 0.15
            else DocumentSubmitted(document_id=document_id, text=f"{words} {number}. " * 3, submitted_at=at)
        )
        example = ExampleSubmitted(task=task, input=f"{words} {number}", output=chance.choice(words.split()))
        for ordinal, event in enumerate((asked, rated, changed, example)):
            moment = at + timedelta(seconds=ordinal)
            records.append(encode(event, new_context("/shuffled", now=moment, event_id=f"{number}-{ordinal}")))
    return records + _releases(chance, max(3, rounds // 100))


def _releases(chance: random.Random, count: int) -> list[Record]:
    """Returns the releases of each task. Their sequence says which one is the last."""
    records = []
    for task in TASKS:
        for sequence in range(1, count + 1):
            champion, challenger = chance.sample(ADAPTERS, 2)
            kind = chance.choice((AdapterPromoted, AdapterRolledBack, CanaryStarted))
            state = {"challenger": challenger, "stage": "canary", "share": 0.5} if kind is CanaryStarted else {}
            event = kind.model_validate({"task": task, "sequence": sequence, "champion": champion, **state})
            context = new_context("/shuffled", now=START + timedelta(seconds=sequence), event_id=f"{task}-{sequence}")
            records.append(encode(event, context))
    return records


def _copied(records: Sequence[Record], chance: random.Random) -> list[Record]:
    copies = [record for record in records for _ in range(COPIES)]
    chance.shuffle(copies)
    return copies


class _Fleet:
    """An answerer, a recorder and an indexer over one database."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        url = f"sqlite:///{folder / 'state.db'}"
        migrate(url)
        self.database, self.kafka, self.chunks = Database(url), MemoryKafka(), MemoryChunks()
        self.delivered = 0
        self._offsets: dict[str, int] = defaultdict(int)
        adapters = MemoryAdapters({name: folder / name for name in ADAPTERS})
        for place in adapters.folders.values():
            place.mkdir()
            (place / "adapter_config.json").write_text("{}")
        engine = MemoryEngine()
        self.answerer = Answerer(
            tasks=TASKS,
            retriever=MemoryRetriever([]),
            engine=engine,
            releases=ServedReleases(LoadedAdapters(engine, adapters, unprobed=True)),
            context_tokens=1000,
            now=_now,
        )
        self._sweeper, indexer = self._indexer()
        handlers = {
            "answerer": self.answerer.handlers(),
            "recorder": Recorder(SqlFeatureTable(self.database)).handlers(),
            "indexer": indexer.handlers(),
        }
        self._deliveries = {agent: self._delivery(agent, table) for agent, table in handlers.items()}

    async def run(self, clients: Sequence[Record], order: _Order) -> None:
        """Delivers the clients' events, then what the agents published for each other, and sweeps."""
        followed = [record for record in clients if record.topic == "promotions.v1"]
        questions = [record for record in clients if record.topic == "questions.v1"]
        others = [record for record in clients if record.topic not in ("promotions.v1", "questions.v1")]
        await self._deliver(order(questions))
        # Feedback and documents are mixed with the answers, so that feedback also comes before its answer.
        await self._deliver(order([*others, *self.kafka.topic("answers.v1")]))
        for number, record in enumerate(order(followed)):
            event, context = decode(record.topic, record.value, record.headers, now=NOW)
            position = Position(record.topic, 0, number)
            await self.answerer.follow(Received(event=event, context=context, position=position))
        await asyncio.to_thread(self._sweeper.delete_versions)

    def state(self) -> _State:
        contents: dict[tuple[str, str], set[object]] = defaultdict(set)
        for record in self.kafka.records:
            name = (record.topic, dict(record.headers)["ce_id"].decode())
            contents[name].add((record.key, record.value, record.headers))
        answers = {name: each for name, each in contents.items() if name[0] == "answers.v1"}
        parts = {
            **{table.name: _hash(self._rows(table)) for table in COMPARED},
            "chunks": _hash(sorted(map(repr, self.chunks.chunks.values()))),
            "releases": _hash(sorted(map(repr, self.answerer.releases.served.items()))),
            "answers": _hash(sorted((name, sorted(map(repr, each))) for name, each in answers.items())),
        }
        return _State(
            parts=parts,
            outputs=frozenset(contents),
            differing=sum(len(each) - 1 for each in contents.values()),
            dead_letters=sum(record.topic.endswith(".dlq") for record in self.kafka.records),
        )

    def _rows(self, table: Table) -> list[str]:
        # When a row arrived is all that may depend on the order.
        columns = [column for column in table.columns if column.name != "recorded_at"]
        with self.database.connection() as connection:
            return sorted(map(repr, connection.execute(select(*columns))))

    async def _deliver(self, records: Sequence[Record]) -> None:
        waiting: dict[str, list[Message]] = defaultdict(list)
        for record in records:
            (agent,) = BY_NAME[record.topic].readers
            self._offsets[record.topic] += 1
            position = Position(record.topic, 0, self._offsets[record.topic])
            waiting[agent].append(
                Message(position=position, key=record.key, value=record.value, headers=record.headers)
            )
            if len(waiting[agent]) == BATCH:
                await self._deliveries[agent].deliver(waiting.pop(agent))
        for agent, rest in waiting.items():
            await self._deliveries[agent].deliver(rest)
        self.delivered += len(records)

    def _delivery(self, agent: str, handlers: Handlers) -> Delivery:
        outbox = Outbox(
            agent, database=self.database, journal=SqlJournal(self.database), runs=SqlRunStore(self.database),
            publisher=self.kafka, clock=_now,
        )  # fmt: skip
        marks = SqlInFlightMarks(self.database)
        topics = TopicIds(read_by(agent), self.kafka, SqlKnownTopics(self.database), clock=_now)
        in_flight = InFlightTracker(agent, marks, life="one", clock=_now, crashes=3, topic_id=topics.__getitem__)
        return Delivery(dispatcher(agent, handlers), outbox, in_flight, topics, clock=_now)

    def _indexer(self) -> tuple[Sweeper, Indexer]:
        database, stores = self.database, Always(self.chunks)
        documents, retired = SqlDocuments(database), SqlRetiredVersions(database)
        indexes, vectors = SqlIndexes(database), SqlVectors(database)
        with database.transaction():
            indexes.add(index())
        writer = IndexWriter(Always(MemoryEmbedder()), stores, vectors, _now, read_html=read_html)
        keep = timedelta(days=30)
        sweeper = Sweeper(indexes=indexes, stores=stores, retired=retired, vectors=vectors, keep_vectors=keep)
        indexer = Indexer(writer=writer, indexes=indexes, documents=documents, retired=retired, sweeper=sweeper)
        return sweeper, indexer


def _now() -> datetime:
    return NOW


def _hash(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()
