"""Runs a stack that indexes documents, for benchmarks that publish to it and search in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
CACHE = Path(os.environ.get("EVERLEARN_CACHE") or ROOT / ".cache")
os.environ.setdefault("EVERLEARN_MODEL_FOLDER", str(CACHE / "models"))
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # the same as in the workers

from infra.embedding.embedder import SentenceTransformerEmbedders  # noqa: E402  # after the models' folder is set
from infra.kafka import RecordPublisher, RecordReader, kafka_connection  # noqa: E402
from infra.local.supervisor import Supervisor  # noqa: E402
from infra.milvus.retriever import MilvusRetriever  # noqa: E402
from infra.milvus.stores import MilvusStores  # noqa: E402
from infra.settings import Settings, load  # noqa: E402
from infra.sql import tables  # noqa: E402
from infra.sql.database import Database  # noqa: E402
from infra.sql.documents import SqlDocuments  # noqa: E402
from infra.sql.indexes import SqlIndexes  # noqa: E402
from schemas.documents import DocumentIndexed, DocumentSubmitted, DocumentUnindexed, DocumentWithdrawn  # noqa: E402
from schemas.envelope import decode, derived_id, encode, new_context  # noqa: E402
from schemas.features import DocumentState  # noqa: E402
from schemas.retrieval import Chunk, Hit, Search  # noqa: E402

Published = DocumentSubmitted | DocumentWithdrawn


def now() -> datetime:
    return datetime.now(UTC)


def command(home: Path, *words: str) -> str:
    """Runs ``everlearn`` in a process of its own, and returns what it printed."""
    line = [sys.executable, "-m", "agents", "--home", str(home), *words]
    return subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


class GivenVectors:
    """Returns embeddings that were computed before, so that the time of a search does not include them."""

    def __init__(self) -> None:
        self.known: dict[str, NDArray[np.float32]] = {}

    def of(self, _model: str) -> GivenVectors:
        return self

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.asarray([self.known[text] for text in texts], dtype=np.float32)


class Stack:
    """Kafka, Milvus, an indexer and a loader in a folder of their own. This process publishes and searches."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings: Settings = load(home)
        self.database = Database(self.settings.sql_url())
        self.documents, self.indexes = SqlDocuments(self.database), SqlIndexes(self.database)
        self.stores = MilvusStores.from_settings(self.settings)
        self._embedders = SentenceTransformerEmbedders(self.settings)
        self.embedder = self._embedders.of(self.settings.embedding.model)
        self.given = GivenVectors()
        self.config = kafka_connection(self.settings)
        self.publisher = RecordPublisher(self.config)

    def retriever(self, *, embedding: bool) -> MilvusRetriever:
        """Returns a retriever. ``embedding``: whether it embeds the queries, or uses the vectors in ``given``."""
        embedders = self._embedders if embedding else self.given
        return MilvusRetriever(indexes=self.indexes, stores=self.stores, embedders=embedders, documents=self.documents)

    def publish(self, events: Iterable[Published], topic: str | None = None) -> None:
        """Publishes events, and returns once Kafka has confirmed all of them."""
        self.publisher.publish([encode(event, new_context("/benchmarks", now=now()), topic) for event in events])

    @contextmanager
    def listening(self) -> Iterator[RecordReader]:
        """Reads the events that the indexer publishes from now on."""
        with RecordReader(self.config, ["indexing.v1"], from_end=True) as reader:
            yield reader

    def until_indexed(self, reader: RecordReader, waiting: Iterable[Published], seconds: float = 900) -> float:
        """Waits until all are indexed or unindexed, and returns the time of the last by ``time.monotonic``."""
        missing = {event.key: event.submitted_at for event in waiting}
        deadline = time.monotonic() + seconds
        while missing:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(missing)} documents are not indexed, such as {next(iter(missing))}")
            for record in reader.poll(0.05):
                event, _ = decode(record.position.topic, record.value, record.headers, now=now())
                if not isinstance(event, DocumentIndexed | DocumentUnindexed):
                    continue
                if event.key in missing and event.submitted_at >= missing[event.key]:
                    del missing[event.key]
        return time.monotonic()

    def workers(self) -> dict[str, int]:
        """Returns the process ids of the running workers by name."""
        return {each.name: each.pid for each in Supervisor(self.settings.run_folder).processes() if each.pid}

    def starts(self, worker: str) -> int:
        """Returns how often a worker became ready."""
        return (self.home / "run" / "logs" / f"{worker}.log").read_text("utf-8").count('"event": "ready"')

    def embedded(self) -> tuple[int, int]:
        """Returns how many distinct texts have a stored embedding, and how many embeddings the workers logged."""
        with self.database.connection() as connection:
            kept = connection.execute(select(func.count()).select_from(tables.vectors)).scalar_one()
        lines = (
            line for path in (self.home / "run" / "logs").iterdir() for line in path.read_text("utf-8").splitlines()
        )
        said = (json.loads(line) for line in lines if '"event": "embedded"' in line)
        return int(kept), sum(each["texts"] for each in said)

    def close(self) -> None:
        self.publisher.close()
        self.stores.close()
        self.database.close()


@contextmanager
def stack(home: Path, **others: int) -> Iterator[Stack]:
    """Starts a fresh stack, and stops it at the end. ``others``: numbers of workers of other agents."""
    agents = ("answerer", "recorder", "monitor", "trainer", "validator", "promoter", "quantizer")
    counts = ",".join(f"{agent}={others.get(agent, 0)}" for agent in agents)
    command(home, "up", "--detach", "--workers", counts)
    try:
        made = Stack(home)
        try:
            yield made
        finally:
            made.close()
    finally:
        command(home, "down")


def fill(running: Stack, chunks: int, text: Callable[[], str]) -> None:
    """Writes documents of five chunks with random vectors directly to Milvus and SQL."""
    (index,) = running.indexes.active()
    store = running.stores.of(index)
    numbers = np.random.default_rng(0)
    for start in range(0, chunks, 1000):
        made = [
            Chunk(
                chunk_id=derived_id("filler", start + at),
                tenant="default",
                document_id=f"filler {(start + at) // 5}",
                version=f"filler {(start + at) // 5}",
                ordinal=at % 5,
                text=text(),
            )
            for at in range(1000)
        ]
        vectors = numbers.standard_normal((1000, index.dimension)).astype(np.float32)
        store.upsert(made, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        with running.database.transaction():
            for name in sorted({chunk.document_id for chunk in made}):
                running.documents.put(_filler_state(name))


def _filler_state(name: str) -> DocumentState:
    return DocumentState(
        tenant="default",
        document_id=name,
        version=name,
        content_hash=name,
        chunk_count=5,
        embedding_model="",
        title=None,
        uri=None,
        submitted_at=now(),
        event_id=name,
    )


def passages(most: int = 2092) -> list[DocumentSubmitted]:
    """Returns feedbackqa's passages as documents, submitted now."""
    at = now()
    rows = (json.loads(line) for line in (DATA / "feedbackqa" / "passages.jsonl").read_text("utf-8").splitlines())
    return [
        DocumentSubmitted(
            document_id=row["doc_id"],
            text=row["text"],
            title=" - ".join([row["page_title"], *row["section_headers"]])[:1000],
            submitted_at=at,
        )
        for row in rows
        if row["text"].strip()
    ][:most]


def percentile(values: Sequence[float], part: float) -> float:
    """Returns a percentile of seconds, in milliseconds."""
    return float(np.percentile(values, part)) * 1000


def ids(hits: Sequence[Hit]) -> set[str]:
    return {hit.chunk.document_id for hit in hits}


def dense(text: str, k: int = 5) -> Search:
    return Search(text=text, tenant="default", k=k, mode="dense")
