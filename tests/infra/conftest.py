"""Stores to search in, on the memory twin and on Milvus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infra.memory.embedder import MemoryEmbedder
from infra.memory.milvus import MemoryChunks
from infra.milvus.stores import MilvusChunks
from tests.infra.retrieval import World


@pytest.fixture(params=["memory", "milvus"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        yield World(MemoryChunks())
        return
    store = MilvusChunks(
        request.getfixturevalue("milvus_uri"), None, request.getfixturevalue("unique_index"), MemoryEmbedder().dimension
    )
    yield World(store)
    store.close()
