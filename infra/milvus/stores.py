"""Stores chunks and their vectors in Milvus: one collection for each index, on a Lite server or a cluster."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from infra.milvus.connection import MilvusConnection
from infra.milvus.filter_language import METADATA, expression, from_stored, literal
from infra.milvus.schema import STORED, messages, schema
from infra.settings import Settings
from schemas.errors import Unavailable
from schemas.filters import Filter
from schemas.indexes import Index
from schemas.retrieval import Chunk, Hit

if TYPE_CHECKING:
    from pymilvus import MilvusClient

T = TypeVar("T")

CALL_SECONDS = 8.0
BM25 = {"bm25_k1": 1.5, "bm25_b": 0.75}
VERSIONS_PER_DELETE = 256


def collection_name(index_id: str) -> str:
    """Returns the name of an index's collection; ids hold only characters that Milvus allows in a name."""
    return f"chunks_{index_id}"


_OWN_NAME = re.compile(r"chunks_[0-9a-f]{16}")
_EARLIER_NAME = re.compile(r"chunks_\w+_\d+_[0-9a-f]{8}")
"""How versions before there were indexes named a collection: by its model and dimension. Nothing reads these."""


class _Found(TypedDict):
    """A hit as Milvus returns it; ``entity`` holds the fields that were asked for and the metadata."""

    distance: float
    entity: dict[str, Any]


class MilvusChunks:
    """Stores and searches the chunks of one index. Connects at the first call, and again after a failure."""

    def __init__(self, uri: str, token: str | None, index_id: str, dimension: int, *, make: bool = True) -> None:
        """``make``: create a missing collection; False for clients that only read."""
        self._make = make
        self._collection = collection_name(index_id)
        self._dimension = dimension
        self._connection = MilvusConnection(uri, token, self._prepare)

    def prepare(self) -> None:
        """Connects, creates the collection if it may, and loads it. Raises Unavailable."""
        self._connection.call(lambda client: None)

    def close(self) -> None:
        """Ends the connection, if there is one."""
        self._connection.close()

    def upsert(self, chunks: Sequence[Chunk], vectors: NDArray[np.float32]) -> None:
        """Writes or overwrites chunks by id. Every client finds them once this returns. Raises Unavailable."""
        for rows in messages(chunks, vectors):

            def write(client: MilvusClient, rows: list[dict[str, object]] = rows) -> None:
                client.upsert(self._collection, rows, timeout=CALL_SECONDS)

            self._connection.call(write)

    def delete(self, versions: Sequence[tuple[str, str, str]]) -> None:
        """Deletes the chunks of (tenant, document_id, version), if there are any. Raises Unavailable."""
        # A version belongs to one document of one tenant, so its name alone identifies the chunks.
        names = sorted({version for _, _, version in versions})
        for start in range(0, len(names), VERSIONS_PER_DELETE):
            wanted = f"version in [{', '.join(map(literal, names[start : start + VERSIONS_PER_DELETE]))}]"

            def erase(client: MilvusClient, wanted: str = wanted) -> None:
                client.delete(self._collection, filter=wanted, timeout=CALL_SECONDS)

            self._connection.call(erase)

    def search(
        self, vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        """Returns for each vector the tenant's k nearest chunks, best first, ties by chunk id. Raises Unavailable."""
        if not len(vectors) or k < 1:
            return [[] for _ in vectors]
        found = self._search([vector.tolist() for vector in vectors], "vector", tenant, k, where, ())
        return [
            sorted((_hit(each, each["distance"]) for each in hits), key=lambda hit: (-hit.score, hit.chunk.chunk_id))
            for hits in found
        ]

    def search_text(
        self,
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        *,
        tenant: str,
        k: int,
        where: Filter | None = None,
    ) -> list[list[Hit]]:
        """Returns for each text the k chunks that share its words, by BM25, best first. Raises Unavailable.

        ``vectors``: the texts' embeddings, shape (texts, dimension); a hit's score is its cosine to them.
        """
        if not texts or k < 1:
            return [[] for _ in texts]
        found = self._search(list(texts), "words", tenant, k, where, ("vector",))
        ranked = [sorted(hits, key=lambda each: (-abs(each["distance"]), each["entity"]["chunk_id"])) for hits in found]
        return [
            [_hit(each, _cosine(vector, each["entity"]["vector"])) for each in hits]
            for vector, hits in zip(vectors, ranked, strict=True)
        ]

    def count(self) -> int:
        """Returns the number of chunks, those of replaced versions included. Raises Unavailable."""
        rows = self._connection.call(
            lambda client: client.query(
                self._collection, output_fields=["count(*)"], consistency_level="Strong", timeout=CALL_SECONDS
            )
        )
        return int(rows[0]["count(*)"])

    def drop(self) -> None:
        """Deletes the collection, if there is one. Raises Unavailable."""
        self._connection.call(lambda client: client.drop_collection(self._collection, timeout=CALL_SECONDS))

    def _search(
        self,
        data: list[list[float]] | list[str],
        field: str,
        tenant: str,
        k: int,
        where: Filter | None,
        more: Sequence[str],
    ) -> list[list[_Found]]:
        found = self._connection.call(
            lambda client: client.search(
                self._collection,
                data=data,
                anns_field=field,
                limit=k,
                filter=expression(tenant, where),
                output_fields=[*STORED, METADATA, *more],
                consistency_level="Strong",
                timeout=CALL_SECONDS,
            )
        )
        return cast(list[list[_Found]], list(found))

    def versions(self, tenant: str, document_id: str) -> dict[str, int]:
        """Returns the versions that a document has chunks of, with their number. Raises Unavailable."""
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

    def _prepare(self, client: MilvusClient) -> None:
        """Creates and loads the collection. Safe when another process does the same, or died half-way."""
        from pymilvus import MilvusException

        if not client.has_collection(self._collection, timeout=CALL_SECONDS):
            if not self._make:
                raise Unavailable("the index is being made, or was replaced just now")
            try:
                client.create_collection(self._collection, schema=schema(client, self._dimension), timeout=CALL_SECONDS)
            except MilvusException:
                if not client.has_collection(self._collection, timeout=CALL_SECONDS):
                    raise
        if not client.list_indexes(self._collection, timeout=CALL_SECONDS):
            # Milvus Lite's graph index loses hits behind a filter, and an exact search is as fast on the data of one
            # machine. A cluster picks the index that fits its hardware.
            lite = "lite" in str(client.get_server_version(timeout=CALL_SECONDS))
            params = client.prepare_index_params()
            params.add_index("vector", index_type="FLAT" if lite else "AUTOINDEX", metric_type="COSINE")
            params.add_index("words", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25", params=BM25)
            try:
                client.create_index(self._collection, params, timeout=CALL_SECONDS)
            except MilvusException:
                if not client.list_indexes(self._collection, timeout=CALL_SECONDS):
                    raise
        client.load_collection(self._collection, timeout=CALL_SECONDS)


class MilvusStores:
    """Gives the collection of each index."""

    def __init__(self, uri: str, token: str | None, *, make: bool = True) -> None:
        """``make``: create missing collections."""
        self._uri, self._token, self._make = uri, token, make
        self._chunks: dict[str, MilvusChunks] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Settings, *, make: bool = True) -> MilvusStores:
        """Connects nothing yet. ``make=False`` is for readers, so that a dropped collection does not come back."""
        token = settings.milvus.token
        return cls(settings.milvus_uri(), token.get_secret_value() if token else None, make=make)

    def of(self, index: Index) -> MilvusChunks:
        """Returns an index's collection, which is created at its first call if it may be."""
        with self._lock:
            if index.index_id not in self._chunks:
                self._chunks[index.index_id] = MilvusChunks(
                    self._uri, self._token, index.index_id, index.dimension, make=self._make
                )
            return self._chunks[index.index_id]

    def drop(self, index: Index) -> None:
        """Deletes an index's collection, if there is one. Raises Unavailable."""
        chunks = self.of(index)
        chunks.drop()
        with self._lock:
            self._chunks.pop(index.index_id, None)
        chunks.close()

    def strays(self, indexes: Iterable[Index]) -> dict[str, bool]:
        """Returns the collections of ours that belong to none of the indexes; True for those of earlier versions.

        Raises Unavailable.
        """
        known = {collection_name(index.index_id) for index in indexes}
        names: list[str] = self._server(lambda client: client.list_collections(timeout=CALL_SECONDS))
        found = {name: _OWN_NAME.fullmatch(name) is None for name in names if name not in known}
        return {name: earlier for name, earlier in found.items() if not earlier or _EARLIER_NAME.fullmatch(name)}

    def drop_stray(self, name: str) -> None:
        """Deletes a collection by its name. Raises Unavailable."""
        self._server(lambda client: client.drop_collection(name, timeout=CALL_SECONDS))

    def _server(self, function: Callable[[MilvusClient], T]) -> T:
        connection = MilvusConnection(self._uri, self._token, lambda client: None)
        try:
            return connection.call(function)
        finally:
            connection.close()

    def keep(self, indexes: Iterable[Index]) -> None:
        """Ends the connections to all other collections, which no longer exist."""
        kept = {index.index_id for index in indexes}
        with self._lock:
            gone = [self._chunks.pop(index_id) for index_id in self._chunks.keys() - kept]
        for each in gone:
            each.close()

    def close(self) -> None:
        with self._lock:
            chunks, self._chunks = list(self._chunks.values()), {}
        for each in chunks:
            each.close()


def _hit(found: _Found, score: float) -> Hit:
    entity = found["entity"]
    fields = {name: entity[name] for name in STORED}
    # A vector that is no direction has no cosine: it is as unlike as can be.
    cosine = float(score) if math.isfinite(score) else -1.0
    return Hit(chunk=Chunk(**fields, metadata=from_stored(entity)), score=cosine)


def _cosine(left: NDArray[np.float32], right: Sequence[float]) -> float:
    other = np.asarray(right, dtype=np.float32)
    norm = float(np.linalg.norm(left) * np.linalg.norm(other))
    return float(left @ other) / norm if norm else 0.0
