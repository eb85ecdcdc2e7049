"""A client that only reads creates no collection, and connections to dropped collections are closed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest

from infra.milvus.stores import MilvusChunks, MilvusStores
from schemas.errors import Unavailable
from schemas.indexes import Index, Recipe
from schemas.retrieval import Chunk

DIMENSION = 4
CHUNK = Chunk(chunk_id="c", tenant="default", document_id="d", version="v", ordinal=0, text="text")
VECTOR = np.array([[1, 0, 0, 0]], dtype=np.float32)


@pytest.fixture
def writer(milvus_uri: str, unique_index: str) -> Iterator[MilvusChunks]:
    store = MilvusChunks(milvus_uri, None, unique_index, DIMENSION)
    yield store
    store.close()


def found(store: MilvusChunks) -> list[Chunk]:
    return [hit.chunk for hit in store.search(VECTOR, tenant="default", k=10)[0]]


def test_a_reader_does_not_bring_back_a_collection_that_was_dropped(
    writer: MilvusChunks, milvus_uri: str, unique_index: str
) -> None:
    reader = MilvusChunks(milvus_uri, None, unique_index, DIMENSION, make=False)
    with pytest.raises(Unavailable, match="the index is being made"):
        found(reader)
    writer.upsert([CHUNK], VECTOR)
    assert found(reader) == [CHUNK]
    writer.drop()
    for _ in range(2):
        with pytest.raises(Unavailable, match="the index is being made"):
            found(reader)
    writer.upsert([CHUNK], VECTOR)
    assert found(reader) == [CHUNK]
    reader.close()


def test_stores_end_the_connections_of_indexes_that_are_gone(milvus_uri: str, unique_index: str) -> None:
    def index(name: str) -> Index:
        return Index(
            index_id=f"{unique_index}{name}",
            scope="",
            recipe=Recipe(embedding_model="m", chunk_tokens=100, overlap_tokens=0),
            dimension=DIMENSION,
            state="serving",
            created_at=datetime.now(UTC),
        )

    stores = MilvusStores(milvus_uri, None)
    gone, stays = stores.of(index("a")), stores.of(index("b"))
    for each in (gone, stays):
        each.prepare()
    stores.keep([index("b")])
    assert stores.of(index("b")) is stays
    assert stores.of(index("a")) is not gone
    for name in "ab":
        stores.drop(index(name))
