"""The indexer's parts: embedding models, Milvus, and the tables of documents and indexes in SQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from agents.delivery.outcome import NOTHING, Outcome
from agents.delivery.worker import RunKind, Tick, Worker
from agents.indexer.agent import Indexer
from agents.indexer.ports import Documents, Embedders, Indexes, KeptVectors, RetiredVersions, VectorStores
from agents.indexer.rebuild_requests import KIND, Rebuilds
from agents.indexer.writing import IndexWriter
from agents.wiring.children import place
from agents.wiring.database import database_of
from agents.wiring.indexes import ensure_indexes, own_scopes, stores_of
from infra.embedding.embedder import SentenceTransformerEmbedders
from infra.milvus.stores import MilvusStores
from infra.settings import Settings
from infra.sql.database import Database
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.indexes import SqlIndexes, SqlVectors
from infra.sql.runs import SqlRunStore
from schemas.documents import DocumentSubmitted, DocumentWithdrawn, IndexRebuildRequested
from schemas.envelope import Received
from schemas.errors import ModelMissing
from schemas.event import Event

log = structlog.get_logger()

AGENT = "indexer"
SWEEP_SECONDS = 10.0
DROP_AFTER = timedelta(seconds=60)
"""For so long whoever began before a switch may still use the old collection."""


class Loaded:
    """The indexer, whose model takes seconds to load: it exists once ``start`` has returned."""

    def __init__(self, settings: Settings, *, ahead: bool = True) -> None:
        """``ahead``: load the models when starting, and make the first index; else with the first document."""
        self._settings, self._ahead = settings, ahead
        self._database: Database | None = None
        self._models: SentenceTransformerEmbedders | None = None
        self._stores: MilvusStores | None = None
        self._indexer: Indexer | None = None
        self._rebuilds: Rebuilds | None = None
        self._retired: dict[str, datetime] = {}
        """When an index was first seen to be retired."""
        self.moved_at = 0.0
        """When texts were last embedded, on ``time.monotonic``'s clock."""

    def start(self) -> None:
        """What succeeded is kept when it is called again after Unavailable."""
        settings = self._settings
        database = self._database = self._database or database_of(settings)
        models = self._models = self._models or SentenceTransformerEmbedders(settings)
        stores = self._stores = self._stores or stores_of(settings)
        self._rebuilds = Rebuilds(
            agent=AGENT,
            own=own_scopes(settings),
            runs=SqlRunStore(database),
            indexes=SqlIndexes(database),
            where=place(settings),
        )
        self._indexer = self._indexer or _indexer(settings, models, stores, database, self._embedded)
        if self._ahead:
            embedder = models.of(settings.embedding.model)
            for index in ensure_indexes(settings, database, embedder, embedder.dimension):
                stores.of(index).prepare()
                try:
                    models.of(index.recipe.embedding_model)
                except ModelMissing as error:
                    log.warning("documents wait: run 'everlearn index rebuild'", problem=str(error))

    def close(self) -> None:
        if self._stores is not None:
            self._stores.close()

    def _embedded(self, texts: int) -> None:
        log.info("embedded", texts=texts)
        self.moved_at = time.monotonic()

    async def handle(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        """Documents together; requests each for itself."""
        if self._indexer is None or self._rebuilds is None:
            raise RuntimeError("the indexer was used before it was started")
        outcomes: dict[int, Outcome] = {}
        documents: dict[int, Received[Event]] = {}
        for at, received in enumerate(batch):
            if isinstance(received.event, IndexRebuildRequested):
                outcomes[at] = self._rebuilds.start(received.event, received.context.id)
            elif isinstance(received.event, DocumentSubmitted | DocumentWithdrawn):
                documents[at] = received
            else:
                outcomes[at] = NOTHING  # a request for others who read the same topic
        if documents:
            outcomes |= dict(zip(documents, await self._indexer.index(list(documents.values())), strict=True))
        return [outcomes[at] for at in range(len(batch))]

    async def sweep(self, scheduled: datetime) -> Outcome:
        """A tick: what retired versions and retired indexes have left is deleted."""
        if self._indexer is None:
            raise RuntimeError("the indexer was used before it was started")
        outcome = await self._indexer.sweep(scheduled)
        await asyncio.to_thread(self._drop_retired)
        return outcome

    def _drop_retired(self) -> None:
        """Deletes the collections of indexes that were replaced a while ago."""
        if self._database is None or self._stores is None:
            return
        indexes = SqlIndexes(self._database)
        for index in indexes.all():
            if index.state == "retired" and self._retired.setdefault(index.index_id, _now()) + DROP_AFTER < _now():
                self._stores.drop(index)
                indexes.remove(index.index_id)

    def rebuilds(self) -> Rebuilds:
        if self._rebuilds is None:
            raise RuntimeError("the indexer was used before it was started")
        return self._rebuilds


def build(settings: Settings) -> Worker:
    """A worker over the configured Milvus and database; connects and loads nothing before it is started."""
    return worker(settings, Loaded(settings))


def worker(settings: Settings, loaded: Loaded) -> Worker:
    """The indexer's worker around something that is loaded when it starts."""
    return Worker(
        agent=AGENT,
        topics=("documents.v1", "requests.v1"),
        handle=loaded.handle,
        batch_size=settings.indexer.batch,
        ticks=(Tick(name="sweep", every_seconds=SWEEP_SECONDS, handle=loaded.sweep),),
        runs=(
            RunKind(
                name=KIND,
                entry="agents.wiring.rebuilding:run",
                done=lambda claim, result: loaded.rebuilds().done(claim, result),
                failed=lambda claim, error: loaded.rebuilds().failed(claim, error),
            ),
        ),
        start=loaded.start,
        close=loaded.close,
        moved_at=lambda: loaded.moved_at,
    )


def _indexer(
    settings: Settings,
    models: SentenceTransformerEmbedders,
    milvus: MilvusStores,
    database: Database,
    on_embedded: Callable[[int], None],
) -> Indexer:
    # The annotations have mypy check that these satisfy the room's ports.
    embedders: Embedders = models
    stores: VectorStores = milvus
    documents: Documents = SqlDocuments(database)
    retired: RetiredVersions = SqlRetiredVersions(database)
    indexes: Indexes = SqlIndexes(database)
    vectors: KeptVectors = SqlVectors(database)
    return Indexer(
        writer=IndexWriter(embedders, stores, vectors, _now, on_embedded),
        stores=stores,
        indexes=indexes,
        documents=documents,
        retired=retired,
        vectors=vectors,
        keep_vectors=timedelta(days=settings.indexer.keep_vectors_days),
        tenants=settings.tenants.names,
    )


def _now() -> datetime:
    return datetime.now(UTC)
