"""Builds the indexer's worker, and what its rebuilds need in their child processes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from agents.delivery.progress import write_progress
from agents.delivery.retrying import retry_while_unavailable
from agents.delivery.worker import Cleaner, RunKind, Worker
from agents.indexer import AGENT
from agents.indexer.agent import Indexer
from agents.indexer.indexes import ConfiguredIndexes, ensure_indexes, new_index
from agents.indexer.rebuild_requests import KIND, Rebuilds
from agents.indexer.sweep import Sweeper
from agents.indexer.work import IndexBuilder
from agents.indexer.writing import IndexWriter
from agents.wiring.database import database_of
from agents.wiring.runs import settings_location, settings_of
from infra.conversion import read_html
from infra.embedding.embedder import SentenceTransformerEmbedders
from infra.milvus.stores import MilvusStores
from infra.settings import Settings
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from infra.sql.indexes import SqlIndexes, SqlVectors
from infra.sql.runs import SqlRunStore
from schemas.documents import IndexRebuildRequested
from schemas.errors import ModelMissing
from schemas.event import JsonObject
from schemas.indexes import DEFAULT_SCOPE
from schemas.policies import EMBEDDED
from schemas.topics import read_by

log = structlog.get_logger()

SWEEP_SECONDS = 10.0


def build(settings: Settings) -> Worker:
    """Adds the first indexes if there are none, and loads the models. Raises Unavailable without Milvus or SQL."""
    parts, database = IndexerParts(settings), database_of(settings)
    indexes = SqlIndexes(database)
    embedder = parts.embedders.of(settings.embedding.model)
    active = ensure_indexes(
        configured_indexes(settings),
        model=embedder.model,
        max_tokens=embedder.max_tokens,
        dimension=embedder.dimension,
        indexes=indexes,
        documents=SqlDocuments(database),
        transaction=database.transaction,
        now=_now,
    )
    for index in active:
        parts.stores.of(index).prepare()
        try:
            parts.embedders.of(index.recipe.embedding_model)
        except ModelMissing as error:
            log.warning("documents wait: run 'everlearn index rebuild'", problem=str(error))
    rebuilds = Rebuilds(
        agent=AGENT,
        own_scopes=configured_indexes(settings).own_scopes,
        runs=SqlRunStore(database),
        indexes=indexes,
        settings_location=settings_location(settings),
    )
    run = RunKind(name=KIND, entry="agents.wiring.indexer:rebuild", done=rebuilds.done, failed=rebuilds.failed)
    return Worker(
        agent=AGENT,
        topics=read_by(AGENT),
        handlers={**parts.indexer.handlers(), **rebuilds.handlers()},
        given_up={IndexRebuildRequested: rebuilds.given_up},
        batch_size=settings.indexer.batch,
        runs=(run,),
        cleaners=(
            Cleaner(name="replaced versions", clean=parts.sweeper.delete_versions, every_seconds=SWEEP_SECONDS),
            Cleaner(name="replaced indexes", clean=parts.sweeper.drop_indexes, every_seconds=SWEEP_SECONDS),
            Cleaner(name="stray collections", clean=parts.sweeper.drop_strays, every_seconds=600.0),
            Cleaner(name="vectors", clean=parts.sweeper.delete_vectors),
        ),
        close=parts.stores.close,
        moved_at=lambda: parts.writer.embedded_at,
    )


def rebuild(arguments: JsonObject, folder: Path) -> JsonObject:
    """Rebuilds an index in a child process, and returns the fields of IndexRebuilt except task and cause.

    ``arguments``: config, and task or None. ``folder``: ``<home>/work/runs/<run id>``.
    """
    settings = settings_of(arguments, folder)
    progress = partial(write_progress, folder)
    progress(0.0, "loading the embedding model")
    embedders = SentenceTransformerEmbedders(settings)
    embedder = embedders.of(settings.embedding.model)
    database, stores = database_of(settings), MilvusStores.from_settings(settings)
    scope = arguments["task"] or DEFAULT_SCOPE
    recipe = configured_indexes(settings).recipe(scope, embedder.model, embedder.max_tokens)
    # The index is named after the run, so that a later attempt goes on with the same index.
    index = new_index(scope, recipe, embedder.dimension, folder.absolute().name, _now())
    builder = IndexBuilder(
        writer=IndexWriter(embedders, stores, SqlVectors(database), _now, read_html=read_html),
        documents=SqlDocuments(database),
        indexes=SqlIndexes(database),
        retired=SqlRetiredVersions(database),
        transaction=database.transaction,
        now=_now,
        folder=folder,
        progress=progress,
    )
    built = retry_while_unavailable(lambda: builder.build(index), folder)
    stores.close()
    return built.result()


def configured_indexes(settings: Settings) -> ConfiguredIndexes:
    """Returns which indexes the settings ask for. Loads nothing."""
    return ConfiguredIndexes(
        tasks=settings.tasks,
        chunk_tokens=settings.indexer.chunk_tokens,
        overlap_tokens=settings.indexer.overlap_tokens,
    )


class IndexerParts:
    """An indexer, with embedding models that load and stores that connect when they are first used."""

    def __init__(self, settings: Settings) -> None:
        database = database_of(settings)
        self.embedders, self.stores = SentenceTransformerEmbedders(settings), MilvusStores.from_settings(settings)
        vectors, indexes, retired = SqlVectors(database), SqlIndexes(database), SqlRetiredVersions(database)
        self.writer = IndexWriter(
            self.embedders,
            self.stores,
            vectors,
            _now,
            on_embedded=lambda texts: log.info("embedded", texts=texts),
            read_html=read_html,
        )
        self.sweeper = Sweeper(
            indexes=indexes,
            stores=self.stores,
            retired=retired,
            vectors=vectors,
            keep_vectors=timedelta(days=settings.indexer.keep_vectors_days),
            # A server that is not embedded may hold another home's collections, which look the same.
            strays=self.stores if settings.milvus.uri == EMBEDDED else None,
        )
        self.indexer = Indexer(
            writer=self.writer,
            indexes=indexes,
            documents=SqlDocuments(database),
            retired=retired,
            sweeper=self.sweeper,
            tenants=settings.tenants.names,
        )


def _now() -> datetime:
    return datetime.now(UTC)
