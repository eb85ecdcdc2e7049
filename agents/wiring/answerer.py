"""Builds the answerer's worker: embedding models and Milvus for the search, an engine, and adapters on disk."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agents.answerer import AGENT
from agents.answerer.agent import Answerer
from agents.answerer.ports import AdapterStore
from agents.answerer.releases import LoadedAdapters, ServedReleases
from agents.delivery.worker import Chore, Follower, Worker
from agents.wiring.database import database_of
from agents.wiring.engines import load_engine
from agents.wiring.tasks import fingerprints
from infra.settings import Settings
from schemas.questions import QuestionAsked
from schemas.topics import followed_by, read_by

if TYPE_CHECKING:
    from infra.milvus.retriever import IndexPreparation, MilvusRetriever
    from infra.milvus.stores import MilvusStores

PREPARE_SECONDS = 2.0
"""How often the answerer prepares for indexes that are being built, so that no search waits after the switch."""
CATCH_UP_SECONDS = 1.0
"""How often it looks for an adapter that was released and could not be loaded yet."""


def build(settings: Settings) -> Worker:
    """Loads the models, which takes a quarter of a minute. Raises Unavailable while Milvus is not there."""
    retriever, preparation, stores = _search(settings)
    preparation.prepare_serving()
    engine = load_engine(settings)
    loaded = LoadedAdapters(engine, _adapters(settings), unprobed=settings.answerer.unprobed)
    answerer = Answerer(
        tasks=settings.tasks,
        retriever=retriever,
        engine=engine,
        releases=ServedReleases(loaded),
        context_tokens=settings.answerer.context_tokens,
        now=lambda: datetime.now(UTC),
        tenants=settings.tenants.names,
        fingerprints=fingerprints(settings),
    )
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers=answerer.handlers(),
        given_up={QuestionAsked: answerer.given_up},
        batch_size=settings.answerer.batch,
        followers=tuple(Follower(topic=topic, apply=answerer.follow) for topic in followed_by(AGENT)),
        chores=(
            Chore(name="adapters", every_seconds=CATCH_UP_SECONDS, do=answerer.catch_up),
            Chore(
                name="indexes",
                every_seconds=PREPARE_SECONDS,
                do=lambda: asyncio.to_thread(preparation.prepare_active),
            ),
        ),
        close=stores.close,
        serves=answerer.serves,
        problem=lambda: answerer.releases.problem,
    )


# The libraries below take ten seconds to import; a process that only describes the worker must not pay for them.


def _search(settings: Settings) -> tuple[MilvusRetriever, IndexPreparation, MilvusStores]:
    from infra.embedding.embedder import SentenceTransformerEmbedders
    from infra.embedding.reranker import CrossEncoderReranker
    from infra.milvus.retriever import IndexPreparation, MilvusRetriever
    from infra.milvus.stores import MilvusStores
    from infra.sql.documents import SqlDocuments
    from infra.sql.indexes import SqlIndexes

    database = database_of(settings)
    indexes, stores = SqlIndexes(database), MilvusStores.from_settings(settings, make=False)
    embedders = SentenceTransformerEmbedders(settings)
    embedders.of(settings.embedding.model)
    wanted = settings.retrieval
    retriever = MilvusRetriever(
        indexes=indexes,
        stores=stores,
        embedders=embedders,
        documents=SqlDocuments(database),
        reranker=CrossEncoderReranker(wanted.cross_encoder) if wanted.cross_encoder else None,
        reranked=wanted.reranked if wanted.cross_encoder else 0,
    )
    return retriever, IndexPreparation(indexes=indexes, stores=stores, embedders=embedders), stores


def _adapters(settings: Settings) -> AdapterStore:
    from infra.adapters.store import FolderAdapters

    return FolderAdapters(settings.adapters_folder, max_bytes=settings.validator.max_adapter_bytes)
