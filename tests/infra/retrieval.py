"""Chunks, documents and a retriever over them, for tests of searching."""

from __future__ import annotations

from typing import Any

from agents.answerer.ports import Retriever
from infra.memory.database import MemoryDatabase
from infra.memory.documents import MemoryDocuments
from infra.memory.embedder import MemoryEmbedder
from infra.memory.milvus import MemoryChunks
from infra.milvus.retriever import MilvusRetriever
from infra.milvus.stores import MilvusChunks
from schemas.envelope import derived_id
from schemas.features import DocumentState
from schemas.retrieval import Chunk, Search
from tests.agents.indexer.room import START
from tests.fixtures.indexes import Always, serving

Store = MilvusChunks | MemoryChunks


class World:
    """Chunks, documents and a retriever over them."""

    def __init__(self, chunks: Store) -> None:
        self.chunks = chunks
        self.embedder = MemoryEmbedder()
        self.documents = MemoryDocuments(MemoryDatabase())
        self.retriever: Retriever = MilvusRetriever(
            indexes=serving(), stores=Always(chunks), embedders=Always(self.embedder), documents=self.documents
        )

    def write(self, document_id: str, version: str, *texts: str, tenant: str = "default") -> None:
        made = [
            Chunk(
                chunk_id=derived_id(tenant, document_id, version, ordinal),
                tenant=tenant,
                document_id=document_id,
                version=version,
                ordinal=ordinal,
                text=text,
            )
            for ordinal, text in enumerate(texts)
        ]
        self.chunks.upsert(made, self.embedder.embed(texts))

    def make_current(self, document_id: str, version: str, tenant: str = "default", *, withdrawn: bool = False) -> None:
        self.documents.put(
            DocumentState(
                tenant=tenant,
                document_id=document_id,
                version=version,
                content_hash="h",
                chunk_count=1,
                embedding_model="memory",
                title=None,
                uri=None,
                submitted_at=START,
                event_id="e",
                withdrawn=withdrawn,
            )
        )

    def found(self, text: str, k: int = 3, tenant: str = "default", **others: Any) -> list[str]:
        (hits,) = self.retriever.search([Search(text=text, tenant=tenant, k=k, **{"mode": "dense", **others})])
        return [hit.chunk.text for hit in hits]
