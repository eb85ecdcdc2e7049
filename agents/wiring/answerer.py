"""The answerer's parts: an embedding model and Milvus to search with, an engine to answer with, adapters on disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from agents.answerer.agent import Answerer
from agents.answerer.ports import AdapterStore, Engine, Retriever
from agents.answerer.releases import LoadedAdapters, ServedReleases
from agents.delivery.outcome import Outcome
from agents.delivery.worker import Follower, Worker
from agents.wiring.database import database_of
from infra.settings import Settings
from schemas.envelope import Received
from schemas.errors import EverlearnError, Unavailable
from schemas.event import Event
from schemas.fleet import Serving

log = structlog.get_logger()

READY_SECONDS = 2.0
"""Between two looks at which indexes are being built."""
READY_AGAIN_SECONDS = 30.0
"""After one that could not be made ready."""


def build(settings: Settings) -> Worker:
    """A worker that loads its models when it starts."""
    starting = _Starting(settings)
    return Worker(
        agent="answerer",
        topics=("questions.v1",),
        handle=starting.answer,
        batch_size=settings.answerer.batch,
        followers=(Follower(topic="promotions.v1", apply=starting.follow),),
        start=starting.start,
        close=starting.close,
        serves=starting.serves,
        problem=starting.problem,
    )


class _Starting:
    """Stands in for the answerer until its models are loaded."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._answerer: Answerer | None = None
        self._close: Callable[[], None] = lambda: None
        self._make_ready: Callable[[], None] = lambda: None
        self._readying: asyncio.Task[None] | None = None
        self._ready_at = 0.0
        self._catching_up: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Takes a quarter of a minute; raises Unavailable while Milvus is not there."""
        settings = self._settings
        retriever, self._make_ready, self._close = _retriever(settings)
        engine = _engine(settings)
        self._answerer = Answerer(
            tasks=settings.tasks,
            retriever=retriever,
            engine=engine,
            releases=ServedReleases(LoadedAdapters(engine, _adapters(settings), unprobed=settings.answerer.unprobed)),
            context_tokens=settings.answerer.context_tokens,
            now=lambda: datetime.now(UTC),
            tenants=settings.tenants.names,
        )

    def close(self) -> None:
        self._close()

    async def answer(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return await self._started().answer(batch)

    async def follow(self, received: Received[Event]) -> None:
        answerer = self._started()
        await answerer.follow(received)
        if answerer.releases.problem:
            log.warning("release not served", event=received.identity, problem=answerer.releases.problem)

    def serves(self) -> Sequence[Serving]:
        """Called with every heartbeat, which is also when a missing adapter is looked for again without traffic.

        And when the model of an index that is being built is loaded, so that no search waits for it after the switch.
        """
        if self._answerer is None:
            return ()
        if time.monotonic() >= self._ready_at and (self._readying is None or self._readying.done()):
            self._ready_at = time.monotonic() + READY_SECONDS
            self._readying = asyncio.ensure_future(self._ready_for_indexes())
        if self._answerer.releases.behind and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.ensure_future(self._answerer.catch_up())
        return self._answerer.serves()

    async def _ready_for_indexes(self) -> None:
        try:
            await asyncio.to_thread(self._make_ready)
        except EverlearnError as error:
            log.warning("index not ready", problem=str(error))
            self._ready_at = time.monotonic() + READY_AGAIN_SECONDS

    def problem(self) -> str | None:
        return None if self._answerer is None else self._answerer.releases.problem

    def _started(self) -> Answerer:
        if self._answerer is None:
            raise Unavailable("the answerer has not loaded its models yet: wait for it")
        return self._answerer


# The libraries below take ten seconds to import; a process that only describes the worker must not pay for them.


def _retriever(settings: Settings) -> tuple[Retriever, Callable[[], None], Callable[[], None]]:
    """The search, what readies it for indexes that will serve soon, and what ends it."""
    from agents.wiring.indexes import stores_of
    from infra.embedding.embedder import SentenceTransformerEmbedders
    from infra.embedding.reranker import CrossEncoderReranker
    from infra.milvus.retriever import MilvusRetriever
    from infra.sql.documents import SqlDocuments
    from infra.sql.indexes import SqlIndexes

    database = database_of(settings)
    indexes, stores = SqlIndexes(database), stores_of(settings, make=False)
    embedders = SentenceTransformerEmbedders(settings)
    wanted = settings.retrieval

    def make_ready(states: Sequence[str] = ("serving", "building")) -> None:
        known = indexes.all()
        stores.keep(known)
        for index in known:
            if index.state in states:
                embedders.of(index.recipe.embedding_model)
                stores.of(index).prepare()

    embedders.of(settings.embedding.model)
    make_ready(("serving",))  # what is being built is nobody's reason to wait
    retriever = MilvusRetriever(
        indexes=indexes,
        stores=stores,
        embedders=embedders,
        documents=SqlDocuments(database),
        reranker=CrossEncoderReranker(wanted.cross_encoder) if wanted.cross_encoder else None,
        reranked=wanted.reranked if wanted.cross_encoder else 0,
    )
    return retriever, make_ready, stores.close


def _engine(settings: Settings) -> Engine:
    from infra.models.loading import prepare

    prepare(settings)  # a model that is not there is told before libraries are loaded
    from infra.engines.transformers import TransformersEngine

    return TransformersEngine.load(settings)


def _adapters(settings: Settings) -> AdapterStore:
    from infra.adapters.store import FolderAdapters

    return FolderAdapters(settings.adapters_folder, max_bytes=settings.validator.max_adapter_bytes)
