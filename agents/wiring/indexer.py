"""The indexer's parts: an embedding model, Milvus, and the table of documents in SQL."""

from __future__ import annotations

from collections.abc import Sequence

from agents.errors import ConfigurationError
from agents.indexer.agent import Indexer
from agents.indexer.ports import Documents, Embedder, RetiredVersions, VectorStore
from agents.indexer.versions import Recipe
from agents.outcome import Outcome
from agents.wiring.database import database_of
from agents.worker import Tick, Worker
from infra.embedder import SentenceTransformerEmbedder
from infra.milvus import MilvusChunks
from infra.settings import Settings
from infra.sql.documents import SqlDocuments, SqlRetiredVersions
from schemas.envelope import Received
from schemas.event import Event

SWEEP_SECONDS = 10.0
PREFIX_TOKENS = 48
"""Left free in what the embedding model reads, for the title and the headings before each chunk."""


class _LoadedOnStart:
    """The indexer, whose model takes seconds to load: it exists once ``start`` has returned."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._model: SentenceTransformerEmbedder | None = None
        self._milvus: MilvusChunks | None = None
        self._indexer: Indexer | None = None

    def start(self) -> None:
        """Loads the model and prepares Milvus; what succeeded is kept when it is called again after Unavailable."""
        settings, token = self._settings, self._settings.milvus.token
        self._model = self._model or SentenceTransformerEmbedder(settings)
        self._milvus = self._milvus or MilvusChunks(
            settings.milvus_uri(),
            token.get_secret_value() if token else None,
            self._model.model,
            self._model.dimension,
        )
        self._indexer = self._indexer or _indexer(settings, self._model, self._milvus)
        self._milvus.prepare()

    def close(self) -> None:
        if self._milvus is not None:
            self._milvus.close()

    async def index(self, batch: Sequence[Received[Event]]) -> Sequence[Outcome]:
        return await self.ready().index(batch)

    def ready(self) -> Indexer:
        if self._indexer is None:
            raise RuntimeError("the indexer was used before it was started")
        return self._indexer


def build(settings: Settings) -> Worker:
    """A worker over the configured Milvus and database; connects and loads nothing before it is started."""
    loaded = _LoadedOnStart(settings)
    return Worker(
        agent="indexer",
        topics=("documents.v1",),
        handle=loaded.index,
        batch_size=settings.indexer.batch,
        ticks=(Tick(name="sweep", every_seconds=SWEEP_SECONDS, handle=lambda at: loaded.ready().sweep(at)),),
        start=loaded.start,
        close=loaded.close,
    )


def _indexer(settings: Settings, embedder: Embedder, chunks: VectorStore) -> Indexer:
    database = database_of(settings)
    # The annotations have mypy check that these satisfy the room's ports.
    documents: Documents = SqlDocuments(database)
    retired: RetiredVersions = SqlRetiredVersions(database)
    wanted = settings.indexer
    tokens = min(wanted.chunk_tokens, embedder.max_tokens - PREFIX_TOKENS)
    if wanted.overlap_tokens >= tokens:
        raise ConfigurationError(
            f"[indexer] overlap_tokens is {wanted.overlap_tokens}, as long as a chunk of {tokens} tokens: lower it"
        )
    recipe = Recipe(embedding_model=embedder.model, chunk_tokens=tokens, overlap_tokens=wanted.overlap_tokens)
    return Indexer(embedder=embedder, chunks=chunks, documents=documents, retired=retired, recipe=recipe)
