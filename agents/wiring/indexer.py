"""Builds the indexer's worker: embedding models, Milvus, and the tables of documents and indexes in SQL."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from agents.delivery.outcome import Outcome
from agents.delivery.worker import RunKind, Tick, Worker
from agents.indexer.agent import Indexer
from agents.indexer.indexes import ensure_indexes, own_scopes, stores_of
from agents.indexer.rebuild_requests import KIND, Rebuilds
from agents.indexer.writing import IndexWriter
from agents.wiring.children import place
from agents.wiring.database import database_of
from infra.embedding.embedder import SentenceTransformerEmbedders
from infra.milvus.stores import MilvusStores
from infra.settings import Settings
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.indexes import SqlIndexes, SqlVectors
from infra.sql.runs import SqlRunStore
from schemas.errors import ModelMissing

log = structlog.get_logger()

AGENT = "indexer"
SWEEP_SECONDS = 10.0
DROP_AFTER = timedelta(seconds=60)
"""A worker that began before a switch of the index may use the old collection for this long."""


def build(settings: Settings) -> Worker:
    """Makes the first index where there is none, and loads the models. Raises Unavailable without Milvus or SQL."""
    worker, models, stores = parts(settings)
    database = database_of(settings)
    embedder = models.of(settings.embedding.model)
    for index in ensure_indexes(settings, database, embedder, embedder.dimension):
        stores.of(index).prepare()
        try:
            models.of(index.recipe.embedding_model)
        except ModelMissing as error:
            log.warning("documents wait: run 'everlearn index rebuild'", problem=str(error))
    return worker


def parts(settings: Settings) -> tuple[Worker, SentenceTransformerEmbedders, MilvusStores]:
    """The worker, with embedding models and stores that load and connect when they are first used."""
    database, models, stores = database_of(settings), SentenceTransformerEmbedders(settings), stores_of(settings)
    embedded = _Embedded()
    vectors, indexes, documents = SqlVectors(database), SqlIndexes(database), SqlDocuments(database)
    indexer = Indexer(
        writer=IndexWriter(models, stores, vectors, _now, embedded.note),
        stores=stores,
        indexes=indexes,
        documents=documents,
        retired=SqlRetiredVersions(database),
        vectors=vectors,
        keep_vectors=timedelta(days=settings.indexer.keep_vectors_days),
        tenants=settings.tenants.names,
    )
    rebuilds = Rebuilds(
        agent=AGENT,
        own=own_scopes(settings),
        runs=SqlRunStore(database),
        indexes=indexes,
        where=place(settings),
    )
    retired = _RetiredIndexes(indexes, stores)

    async def sweep(scheduled: datetime) -> Outcome:
        outcome = await indexer.sweep(scheduled)
        await asyncio.to_thread(retired.drop)
        return outcome

    worker = Worker(
        agent=AGENT,
        topics=("documents.v1", "requests.v1"),
        handlers={**indexer.handlers(), **rebuilds.handlers()},
        batch_size=settings.indexer.batch,
        ticks=(Tick(name="sweep", every_seconds=SWEEP_SECONDS, handle=sweep),),
        runs=(RunKind(name=KIND, entry="agents.wiring.rebuilding:run", done=rebuilds.done, failed=rebuilds.failed),),
        close=stores.close,
        moved_at=lambda: embedded.at,
    )
    return worker, models, stores


@dataclass
class _Embedded:
    """When texts were last embedded, on ``time.monotonic``'s clock."""

    at: float = 0.0

    def note(self, texts: int) -> None:
        log.info("embedded", texts=texts)
        self.at = time.monotonic()


@dataclass
class _RetiredIndexes:
    """Deletes the collections of indexes that were replaced a while ago."""

    indexes: SqlIndexes
    stores: MilvusStores
    first_seen: dict[str, datetime] = field(default_factory=dict)

    def drop(self) -> None:
        for index in self.indexes.all():
            if index.state == "retired" and self.first_seen.setdefault(index.index_id, _now()) + DROP_AFTER < _now():
                self.stores.drop(index)
                self.indexes.remove(index.index_id)


def _now() -> datetime:
    return datetime.now(UTC)
