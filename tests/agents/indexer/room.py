"""An indexer on memory twins, events for it, and a small delivery that can crash where a process can."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from agents.delivery.outcome import Outcome, Output
from agents.delivery.worker import dispatcher
from agents.indexer.agent import Indexer
from agents.indexer.sweep import Sweeper
from agents.indexer.versions import DocumentEvent
from agents.indexer.writing import IndexWriter
from infra.conversion import read_html
from infra.memory.database import MemoryDatabase
from infra.memory.documents import MemoryDocuments, MemoryRetiredVersions
from infra.memory.embedder import MemoryEmbedder
from infra.memory.indexes import MemoryIndexes, MemoryVectors
from infra.memory.journal import MemoryJournal
from infra.memory.milvus import MemoryChunks
from schemas.documents import DocumentIndexed, DocumentSubmitted, DocumentUnindexed, DocumentWithdrawn
from schemas.envelope import EventContext, Position, Received
from schemas.errors import Unavailable
from schemas.event import Event
from schemas.features import DocumentState
from schemas.indexes import Index
from tests.fixtures.indexes import Always, index

START = datetime(2026, 1, 1, tzinfo=UTC)


class Crash(Exception):
    """The process died here."""


class CountingEmbedder(MemoryEmbedder):
    """Remembers what it embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        return super().embed(texts)


class Chunks(MemoryChunks):
    """The twin, which can be made unreachable."""

    away = False

    def upsert(self, chunks: Sequence[object], vectors: NDArray[np.float32]) -> None:
        self._answer()
        super().upsert(chunks, vectors)  # type: ignore[arg-type]  # the twin's own type

    def delete(self, versions: Sequence[tuple[str, str, str]]) -> None:
        self._answer()
        super().delete(versions)

    def _answer(self) -> None:
        if self.away:
            raise Unavailable("Milvus does not answer: start it")


class Room:
    """An indexer, its stores, and deliveries to it."""

    def __init__(self, chunk_tokens: int = 16, overlap_tokens: int = 4, tenants: Sequence[str] = ()) -> None:
        self.database = MemoryDatabase()
        self.documents = MemoryDocuments(self.database)
        self.retired = MemoryRetiredVersions(self.database)
        self.journal = MemoryJournal(self.database)
        self.chunks = Chunks()
        self.embedder = CountingEmbedder()
        self.published: list[tuple[str, Output]] = []
        self.indexes, self.vectors = MemoryIndexes(self.database), MemoryVectors(self.database)
        self.indexes.add(index(chunk_tokens=chunk_tokens, overlap_tokens=overlap_tokens))
        self.stores = {"index0": self.chunks}
        self.writer = IndexWriter(Always(self.embedder), self, self.vectors, lambda: START, read_html=read_html)
        self.sweeper = Sweeper(
            indexes=self.indexes,
            stores=self,
            retired=self.retired,
            vectors=self.vectors,
            keep_vectors=timedelta(days=30),
        )
        self.indexer = Indexer(
            writer=self.writer,
            indexes=self.indexes,
            documents=self.documents,
            retired=self.retired,
            sweeper=self.sweeper,
            tenants=tenants,
        )

    def of(self, wanted: Index) -> Chunks:
        """Returns an index's collection."""
        return self.stores.setdefault(wanted.index_id, Chunks())

    def drop(self, index: Index) -> None:
        del self.stores[index.index_id]

    def sweep(self, now: datetime) -> None:
        """Does everything that the janitor does for the indexer."""
        sweeper = self.sweeper
        for clean in (sweeper.delete_versions, sweeper.delete_vectors, sweeper.drop_indexes, sweeper.drop_strays):
            clean(now)

    async def deliver(self, *events: Received[Event], crash: str | None = None) -> None:
        """Delivers one batch. ``crash``: ``before commit``, ``in commit`` (at the last effect) or ``after commit``."""
        known = self.journal.find("indexer", [each.identity for each in events])
        fresh = [each for each in events if each.identity not in known]
        outcomes = list(zip(fresh, await dispatcher("indexer", self.indexer.handlers())(fresh), strict=True))
        if crash == "before commit":
            raise Crash
        self.commit(outcomes, crash_at=len(outcomes) - 1 if crash == "in commit" else None)
        if crash == "after commit":
            raise Crash
        for _, outcome in outcomes:
            if outcome.after is not None:
                outcome.after()

    def commit(self, outcomes: Sequence[tuple[Received[Event], Outcome]], crash_at: int | None = None) -> None:
        outputs: list[tuple[str, Output]] = []
        with self.database.transaction():
            for number, (received, outcome) in enumerate(outcomes):
                if number == crash_at:
                    raise Crash
                assert outcome.effect is not None
                outputs += [(received.context.id, each) for each in outcome.effect() if isinstance(each, Output)]
                self.journal.add("indexer", received.identity, (), START)
        self.published += outputs

    def state(self, document_id: str = "d", tenant: str = "default") -> DocumentState | None:
        return self.documents.current([(tenant, document_id)]).get((tenant, document_id))

    def published_for(self, event_id: str) -> DocumentIndexed | DocumentUnindexed:
        """Returns the one event that was published for an event."""
        (output,) = [output for cause, output in self.published if cause == event_id]
        assert isinstance(output.event, DocumentIndexed | DocumentUnindexed)
        return output.event

    def picture(self) -> tuple[object, ...]:
        """Returns everything that must not depend on crashes, on batches or on the order of events."""
        with self.database.table("documents") as documents, self.database.table("retired_versions") as retired:
            return dict(documents), dict(retired), self.chunks.chunks


def submitted(
    event_id: str, minute: float, text: str, document_id: str = "d", tenant: str = "default", **others: object
) -> Received[DocumentEvent]:
    event = DocumentSubmitted.model_validate(
        {"document_id": document_id, "tenant": tenant, "text": text, "submitted_at": at(minute), **others}
    )
    return _received(event, event_id, minute)


def withdrawn(event_id: str, minute: float, document_id: str = "d", tenant: str = "default") -> Received[DocumentEvent]:
    event = DocumentWithdrawn(document_id=document_id, tenant=tenant, submitted_at=at(minute))
    return _received(event, event_id, minute)


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def _received(event: DocumentEvent, event_id: str, minute: float) -> Received[DocumentEvent]:
    context = EventContext(id=event_id, source="/tests", time=at(minute))
    return Received(event=event, context=context, position=Position("documents.v1", 0, int(minute)))


def texts(room: Room) -> set[str]:
    return {chunk.text for chunk in room.chunks.chunks.values()}


LONG = "one two three four five six seven eight nine ten. " * 8
STORY = (
    submitted("a", 1, "first text"),
    submitted("b", 2, LONG),
    withdrawn("c", 3),
    submitted("d", 4, "first text"),
    submitted("e", 5, "last text", title="A title"),
)
