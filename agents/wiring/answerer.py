"""The answerer's parts: an embedding model and Milvus to search with, an engine to answer with, adapters on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from agents.answerer.agent import Answerer
from agents.answerer.ports import AdapterStore, Engine, Retriever
from agents.answerer.releases import LoadedAdapters, ServedReleases
from agents.errors import Unavailable
from agents.outcome import Outcome
from agents.wiring.database import database_of
from agents.worker import Follower, Worker
from infra.settings import Settings
from schemas.envelope import Received
from schemas.event import Event
from schemas.fleet import Serving

log = structlog.get_logger()


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
        self._catching_up: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Takes a quarter of a minute; raises Unavailable while Milvus is not there."""
        settings = self._settings
        retriever, self._close = _retriever(settings)
        engine = _engine(settings)
        self._answerer = Answerer(
            tasks=settings.tasks,
            retriever=retriever,
            engine=engine,
            releases=ServedReleases(LoadedAdapters(engine, _adapters(settings), unprobed=settings.answerer.unprobed)),
            context_tokens=settings.answerer.context_tokens,
            now=lambda: datetime.now(UTC),
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
        """Called with every heartbeat, which is also when a missing adapter is looked for again without traffic."""
        if self._answerer is None:
            return ()
        if self._answerer.releases.behind and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.ensure_future(self._answerer.catch_up())
        return self._answerer.serves()

    def problem(self) -> str | None:
        return None if self._answerer is None else self._answerer.releases.problem

    def _started(self) -> Answerer:
        if self._answerer is None:
            raise Unavailable("the answerer has not loaded its models yet: wait for it")
        return self._answerer


# The libraries below take ten seconds to import; a process that only describes the worker must not pay for them.


def _retriever(settings: Settings) -> tuple[Retriever, Callable[[], None]]:
    from infra.embedder import SentenceTransformerEmbedder
    from infra.milvus import MilvusChunks
    from infra.retriever import MilvusRetriever
    from infra.sql.documents import SqlDocuments

    token = settings.milvus.token.get_secret_value() if settings.milvus.token else None
    uri = settings.milvus_uri()
    embedder = SentenceTransformerEmbedder(settings)
    chunks = MilvusChunks(uri, token, embedder.model, embedder.dimension)
    chunks.prepare()
    return MilvusRetriever(chunks, embedder, SqlDocuments(database_of(settings))), chunks.close


def _engine(settings: Settings) -> Engine:
    from infra.engines.transformers import TransformersEngine
    from infra.models import load_causal_lm

    model, tokenizer = load_causal_lm(settings)
    return TransformersEngine(model, tokenizer, base_model=settings.model.base)


def _adapters(settings: Settings) -> AdapterStore:
    from infra.adapters import FolderAdapters

    return FolderAdapters(settings.adapters_folder, max_bytes=settings.validator.max_adapter_bytes)
