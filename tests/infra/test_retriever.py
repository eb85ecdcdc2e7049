"""A search gives current chunks of one tenant, k of them where there are k."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.answerer.ports import Retriever
from infra.memory.database import MemoryDatabase
from infra.memory.documents import MemoryDocuments
from infra.memory.embedder import MemoryEmbedder
from infra.memory.milvus import MemoryChunks
from infra.milvus import MilvusChunks
from infra.retriever import MAX_DEPTH, MilvusRetriever, fused
from schemas.envelope import derived_id
from schemas.features import DocumentState
from schemas.filters import Filter, parse_filter
from schemas.retrieval import Chunk, Hit, Search
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


def test_a_search_that_finds_nothing_current_ends_at_the_bound() -> None:
    chunks = CountingChunks()
    world = World(chunks)
    world.write("d", "v1", *["red"] * (MAX_DEPTH + 10))
    assert world.found("red") == []
    assert chunks.depths[-1] == (1, MAX_DEPTH)
    assert len(chunks.depths) < 8


def test_by_words_a_rare_one_finds_what_meaning_does_not(world: World) -> None:
    world.write("d", "v1", "the pump P-4711 leaks", "water runs out of the pump", "a red apple")
    world.make_current("d", "v1")
    assert world.found("P-4711", mode="text", k=1) == ["the pump P-4711 leaks"]
    assert world.found("nothing of this", mode="text") in ([], ["water runs out of the pump"])


def test_a_title_and_a_heading_are_searched_with_the_text(world: World) -> None:
    chunk = Chunk(
        chunk_id="c",
        tenant="default",
        document_id="d",
        version="v1",
        ordinal=0,
        text="Turn it off first.",
        title="Manual",
        heading="Repairs > Gearbox",
    )
    world.chunks.upsert([chunk], world.embedder.embed([chunk.text]))
    world.make_current("d", "v1")
    assert world.found("gearbox", mode="text") == [chunk.text]


def test_what_both_rankings_hold_comes_before_what_one_holds() -> None:
    def hit(name: str, score: float) -> Hit:
        chunk = Chunk(chunk_id=name, tenant="t", document_id=name, version="v", ordinal=0, text=name)
        return Hit(chunk=chunk, score=score)

    a, b, c = hit("a", 0.9), hit("b", 0.8), hit("c", 0.1)
    assert fused([[a, b], [b, c]]) == [b, a, c]
    assert fused([[], []]) == []


def test_a_filter_holds_for_every_mode(world: World) -> None:
    for number, lang in enumerate(("en", "es")):
        chunk = Chunk(
            chunk_id=f"c{number}",
            tenant="default",
            document_id="d",
            version="v1",
            ordinal=number,
            text=f"red apple {lang}",
            metadata={"lang": lang, "year": 2020 + number},
        )
        world.chunks.upsert([chunk], world.embedder.embed([chunk.text]))
    world.make_current("d", "v1")
    for mode in ("dense", "text", "hybrid"):
        assert world.found("red apple", mode=mode, where=parse_filter('lang = "es"')) == ["red apple es"]
        assert world.found("red apple", mode=mode, where=parse_filter("year < 2021")) == ["red apple en"]


def test_searches_whose_filters_python_takes_for_equal_are_not_done_together(world: World) -> None:
    for name, value in (("number", 1), ("truth", True)):
        made = Chunk(chunk_id=name, tenant="default", document_id=name, version="v" + name, ordinal=0, text=name,
                     metadata={"a": value})  # fmt: skip
        world.chunks.upsert([made], world.embedder.embed([name]))
        world.make_current(name, "v" + name)
    searches = [Search(text="x", tenant="default", k=3, where=parse_filter(where)) for where in ("a = 1", "a = true")]
    found = world.retriever.search(searches)
    assert [[hit.chunk.text for hit in hits] for hits in found] == [["number"], ["truth"]]


class Replacing(MemoryChunks):
    """Its first search ends just before a document is replaced."""

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
