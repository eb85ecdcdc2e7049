"""Builds the answerer's worker: embedding model and Milvus for the search, an engine, and adapters on disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog

from agents.answerer.agent import Answerer
from agents.answerer.ports import AdapterStore, Engine, Retriever
from agents.answerer.releases import LoadedAdapters, ServedReleases
from agents.delivery.worker import Chore, Follower, Worker
from agents.wiring.database import database_of
from infra.settings import Settings

log = structlog.get_logger()

READY_SECONDS = 2.0
"""How often the answerer loads the models of indexes that are being built, so that no search waits after the switch."""
CATCH_UP_SECONDS = 1.0
"""How often it looks for an adapter that was released and could not be loaded yet."""


def build(settings: Settings) -> Worker:
    """Loads the models, which takes a quarter of a minute. Raises Unavailable while Milvus is not there."""
    retriever, make_ready, close = _retriever(settings)
    engine = _engine(settings)
    loaded = LoadedAdapters(engine, _adapters(settings), unprobed=settings.answerer.unprobed)
    answerer = Answerer(
        tasks=settings.tasks,
        retriever=retriever,
        engine=engine,
        releases=ServedReleases(loaded),
        context_tokens=settings.answerer.context_tokens,
        now=lambda: datetime.now(UTC),
        tenants=settings.tenants.names,
    )
    return Worker(
        agent="answerer",
        topics=("questions.v1",),
        handlers=answerer.handlers(),
        batch_size=settings.answerer.batch,
        followers=(Follower(topic="promotions.v1", apply=answerer.follow),),
        chores=(
            Chore(name="adapters", every_seconds=CATCH_UP_SECONDS, do=answerer.catch_up),
            Chore(name="indexes", every_seconds=READY_SECONDS, do=lambda: asyncio.to_thread(make_ready)),
        ),
        close=close,
        serves=answerer.serves,
        problem=lambda: answerer.releases.problem,
    )


# The libraries below take ten seconds to import; a process that only describes the worker must not pay for them.


def _retriever(settings: Settings) -> tuple[Retriever, Callable[[], None], Callable[[], None]]:
    """The search, what readies it for indexes that will serve soon, and what ends it."""
    from agents.indexer.indexes import stores_of
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
