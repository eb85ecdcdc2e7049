"""Chunks and their vectors in Milvus: one collection per embedding model, on a Lite server or a cluster alike."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.milvus_connection import Client, MilvusConnection
from schemas.retrieval import Chunk, Hit

CALL_SECONDS = 8.0
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Of one upsert, about: it must be written within CALL_SECONDS, and a cluster refuses more than 64 MB."""
MAX_TEXT_BYTES = 65_535
"""What Milvus takes in one text field, UTF-8."""
VERSIONS_PER_DELETE = 256
STORED = ("chunk_id", "tenant", "document_id", "version", "ordinal", "text", "title", "uri")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def collection_name(model: str, dimension: int) -> str:
    """A name that Milvus takes and that no other embedding model shares."""
    readable = re.sub(r"[^A-Za-z0-9]+", "_", model.rstrip("/").rsplit("/", 1)[-1]).strip("_")[:64]
    digest = hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"chunks_{readable}_{dimension}_{digest}"


def literal(text: str) -> str:
    """A string in Milvus' filter language; whatever the text holds, it stays inside the quotes.

    Filter templates would be the library's way, but Milvus Lite 3.2 ignores them.
    """
    return '"' + "".join(_ESCAPES.get(character, character) for character in text) + '"'


class MilvusChunks:
    """Satisfies the indexer's VectorStore, and searches. Connects at the first call, and again after a failure."""

    def __init__(self, uri: str, token: str | None, model: str, dimension: int) -> None:
        self._collection = collection_name(model, dimension)
        self._dimension = dimension
        self._connection = MilvusConnection(uri, token, self._prepare)

    def prepare(self) -> None:
        """Connects, makes the collection where there is none, and loads it. Raises Unavailable."""
        self._connection.call(lambda client: None)

    def close(self) -> None:
        """Ends the connection; harmless when there is none."""
        self._connection.close()

    def upsert(self, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Writes or overwrites by chunk id; searchable, by every client, once this returns. Raises Unavailable."""
        for rows in _messages(chunks, vectors):

            def write(client: Client, rows: list[dict[str, Any]] = rows) -> None:
                client.upsert(self._collection, rows, timeout=CALL_SECONDS)

            self._connection.call(write)

    def delete(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Removes the chunks of (tenant, document_id, version); harmless where there are none. Raises Unavailable."""
        # A version belongs to one document of one tenant, so its name alone says enough.
        names = sorted({version for _, _, version in versions})
        for start in range(0, len(names), VERSIONS_PER_DELETE):
            wanted = f"version in [{', '.join(map(literal, names[start : start + VERSIONS_PER_DELETE]))}]"

            def erase(client: Client, wanted: str = wanted) -> None:
                client.delete(self._collection, filter=wanted, timeout=CALL_SECONDS)

            self._connection.call(erase)

    def search(self, vectors: NDArray[np.float32], *, tenant: str, k: int) -> list[list[Hit]]:
        """For each vector the k nearest chunks of the tenant, best first, ties by chunk id. Raises Unavailable."""
        if not len(vectors) or k < 1:
            return [[] for _ in vectors]
        found = self._connection.call(
            lambda client: client.search(
                self._collection,
                data=[vector.tolist() for vector in vectors],
                anns_field="vector",
                limit=k,
                filter=f"tenant == {literal(tenant)}",
                output_fields=list(STORED),
                consistency_level="Strong",
                timeout=CALL_SECONDS,
            )
        )
        return [
            sorted((_hit(each) for each in hits), key=lambda hit: (-hit.score, hit.chunk.chunk_id)) for hits in found
        ]

    def versions(self, tenant: str, document_id: str) -> dict[str, int]:
        """The versions that a document has chunks of, and how many. Raises Unavailable."""
        rows = self._connection.call(
            lambda client: client.query(
                self._collection,
                filter=f"tenant == {literal(tenant)} and document_id == {literal(document_id)}",
                output_fields=["version"],
                consistency_level="Strong",
                timeout=CALL_SECONDS,
            )
        )
        counts: dict[str, int] = {}
        for row in rows:
            counts[row["version"]] = counts.get(row["version"], 0) + 1
        return counts

    def _prepare(self, client: Client) -> None:
        """Idempotent, and safe against another process that does the same now or died half-way."""
        from pymilvus import MilvusException

        if not client.has_collection(self._collection, timeout=CALL_SECONDS):
            try:
                client.create_collection(
                    self._collection, schema=_schema(client, self._dimension), timeout=CALL_SECONDS
                )
            except MilvusException:
                if not client.has_collection(self._collection, timeout=CALL_SECONDS):
                    raise
        if not client.list_indexes(self._collection):
            # Milvus Lite's graph index loses hits behind a filter, and an exact search of what one machine holds is
            # as fast; a cluster picks the index that fits its hardware.
            lite = "lite" in str(client.get_server_version(timeout=CALL_SECONDS))
            params = client.prepare_index_params()
            params.add_index("vector", index_type="FLAT" if lite else "AUTOINDEX", metric_type="COSINE")
            try:
                client.create_index(self._collection, params, timeout=CALL_SECONDS)
            except MilvusException:
                if not client.list_indexes(self._collection):
                    raise
        client.load_collection(self._collection, timeout=CALL_SECONDS)


def _schema(client: Client, dimension: int) -> Any:
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("chunk_id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("tenant", DataType.VARCHAR, max_length=64)
    schema.add_field("document_id", DataType.VARCHAR, max_length=2048)  # 512 characters of up to four bytes
    schema.add_field("version", DataType.VARCHAR, max_length=64)
    schema.add_field("ordinal", DataType.INT64)
    # The analyzer lets a later field of BM25 scores be made from the text.
    schema.add_field("text", DataType.VARCHAR, max_length=MAX_TEXT_BYTES, enable_analyzer=True)
    schema.add_field("title", DataType.VARCHAR, max_length=4000, nullable=True)
    schema.add_field("uri", DataType.VARCHAR, max_length=8000, nullable=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    return schema


def _messages(chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    size = 0
    for chunk, vector in zip(chunks, vectors, strict=True):
        rows.append({**{name: getattr(chunk, name) for name in STORED}, "vector": vector.tolist()})
        size += 4 * len(vector) + 4 * len(chunk.text) + 512
        if size >= MAX_MESSAGE_BYTES:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows


def _hit(found: Any) -> Hit:
    return Hit(chunk=Chunk(**{name: found["entity"][name] for name in STORED}), score=float(found["distance"]))
