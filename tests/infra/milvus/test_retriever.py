"""A search returns current chunks of one tenant, and k of them where there are k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.memory.embedder import MemoryEmbedder
from infra.memory.milvus import MemoryChunks
from infra.milvus.retriever import MAX_DEPTH, MilvusRetriever
from schemas.errors import ModelMissing, Unavailable
from schemas.filters import Filter
from schemas.retrieval import Hit, Search
from tests.fixtures.indexes import Always, serving
from tests.infra.retrieval import World


def test_the_nearest_current_chunks_come_best_first(world: World) -> None:
    world.write("d", "v1", "red apple", "green pear", "red apple pie")
    world.make_current("d", "v1")
    assert world.found("red apple", k=2) == ["red apple", "red apple pie"]


def test_a_replaced_version_is_not_found_though_its_chunks_are_still_there(world: World) -> None:
    world.write("d", "v1", "red apple")
    world.write("d", "v2", "green pear")
    world.make_current("d", "v2")
    assert world.found("red apple") == ["green pear"]


def test_a_withdrawn_or_unknown_document_is_not_found(world: World) -> None:
    world.write("d", "v1", "red apple")
    world.write("unknown", "v2", "red apple")
    world.make_current("d", "v1", withdrawn=True)
    assert world.found("red apple") == []


def test_hits_that_old_versions_pushed_out_are_found_by_searching_deeper(world: World) -> None:
    world.write("d", "v1", *[f"red apple {number}" for number in range(200)])
    world.write("e", "v2", "red", "apple", "pear")
    world.make_current("d", "none of these")
    world.make_current("e", "v2")
    assert sorted(world.found("red apple", k=2)) == ["apple", "red"]
    assert len(world.found("red apple", k=9)) == 3


def test_texts_that_have_enough_keep_what_they_have_while_others_go_deeper(world: World) -> None:
    world.write("d", "v1", *["red apple"] * 50)
    world.write("e", "v2", "red sky", "green pear", "blue sea")
    world.make_current("e", "v2")
    searches = [Search(text=text, tenant="default", k=1, mode="dense") for text in ("red apple", "green pear")]
    red, pear = world.retriever.search(searches)
    assert [hit.chunk.text for hit in (*red, *pear)] == ["red sky", "green pear"]


def test_a_tenant_never_sees_another_tenants_chunks(world: World) -> None:
    world.write("d", "v1", "red apple", tenant="theirs")
    world.make_current("d", "v1", "theirs")
    world.make_current("d", "v1", "mine")
    assert world.found("red apple", tenant="mine") == []
    assert world.found("red apple", tenant="theirs") == ["red apple"]


def test_no_texts_and_no_hits_wanted_are_no_search(world: World) -> None:
    assert world.retriever.search([]) == []
    assert world.retriever.search([Search(text=text, tenant="default", k=0) for text in ("a", "b")]) == [[], []]


def test_k_counts_chunks_not_documents(world: World) -> None:
    world.write("d", "v1", "red apple one", "red apple two", "red apple three")
    world.make_current("d", "v1")
    assert len(world.found("red apple", k=2)) == 2


class CountingChunks(MemoryChunks):
    def __init__(self) -> None:
        super().__init__()
        self.depths: list[tuple[int, int]] = []

    def search(
        self, vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        self.depths.append((len(vectors), k))
        return super().search(vectors, tenant=tenant, k=k, where=where)


class CountingEmbedder(MemoryEmbedder):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.sizes.append(len(texts))
        return super().embed(texts)


def test_many_texts_are_one_embedding_and_one_search() -> None:
    chunks = CountingChunks()
    world = World(chunks)
    embedder = CountingEmbedder()
    world.write("d", "v1", *[f"text {number}" for number in range(20)])
    world.make_current("d", "v1")
    retriever = MilvusRetriever(
        indexes=serving(), stores=Always(chunks), embedders=Always(embedder), documents=world.documents
    )
    retriever.search([Search(text=f"text {n}", tenant="default", k=4, mode="dense") for n in range(9)])
    assert (embedder.sizes, len(chunks.depths)) == ([9], 1)


def test_a_fused_search_goes_deeper_only_until_it_has_what_was_asked_for() -> None:
    chunks = CountingChunks()
    world = World(chunks)
    world.write("coming", "v1", *[f"red apple {number}" for number in range(300)])
    world.write("there", "v1", *["red apple"] * 5)
    world.make_current("there", "v1")
    assert world.found("red apple", k=3, mode="hybrid") == ["red apple"] * 3
    assert len(chunks.depths) == 1
    assert world.found("red apple", k=6, mode="hybrid") == ["red apple"] * 5
    assert chunks.depths[-1][1] > 305


def test_a_search_that_finds_nothing_current_ends_at_the_bound() -> None:
    chunks = CountingChunks()
    world = World(chunks)
    world.write("d", "v1", *["red"] * (MAX_DEPTH + 10))
    assert world.found("red") == []
    assert chunks.depths[-1] == (1, MAX_DEPTH)
    assert len(chunks.depths) < 8


class Replacing(MemoryChunks):
    """A document is replaced just after the first search."""

    def __init__(self, world_of: list[World]) -> None:
        super().__init__()
        self._world_of = world_of

    def search(
        self, vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        found = super().search(vectors, tenant=tenant, k=k, where=where)
        if self._world_of:
            world = self._world_of.pop()
            world.write("d", "v2", "red apple, second edition")
            world.make_current("d", "v2")
        return found


def test_a_document_that_is_replaced_while_it_is_searched_for_is_found_all_the_same() -> None:
    worlds: list[World] = []
    world = World(Replacing(worlds))
    world.write("d", "v1", "red apple")
    world.make_current("d", "v1")
    worlds.append(world)
    assert world.found("red apple") == ["red apple, second edition"]


class ReplacingBetween(MemoryChunks):
    """A document is replaced after the ranking by meaning and before that by words."""

    def __init__(self, world_of: list[World]) -> None:
        super().__init__()
        self._world_of = world_of

    def search_text(
        self, texts: Sequence[str], vectors: NDArray[np.float32], *, tenant: str, k: int, where: Filter | None = None
    ) -> list[list[Hit]]:
        if self._world_of:
            world = self._world_of.pop()
            world.write("d", "v2", "red apple, second edition", "red apple pie, second edition")
            world.make_current("d", "v2")
        return super().search_text(texts, vectors, tenant=tenant, k=k, where=where)


def test_a_hybrid_search_never_mixes_two_versions_of_a_document() -> None:
    worlds: list[World] = []
    world = World(ReplacingBetween(worlds))
    world.write("d", "v1", "red apple", "red apple pie")
    world.make_current("d", "v1")
    worlds.append(world)
    found = world.found("red apple", k=5, mode="hybrid")
    assert sorted(found) == ["red apple pie, second edition", "red apple, second edition"]


class Missing:
    """A model that only other machines have."""

    def of(self, model: str) -> MemoryEmbedder:
        raise ModelMissing(f"{model} is not here")


def test_an_index_whose_model_is_missing_here_is_waited_for() -> None:
    world = World(MemoryChunks())
    retriever = MilvusRetriever(
        indexes=serving(), stores=Always(world.chunks), embedders=Missing(), documents=world.documents
    )
    with pytest.raises(Unavailable, match="is not here"):
        retriever.search([Search(text="x", tenant="default", k=1)])
