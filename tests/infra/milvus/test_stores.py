"""The contract of a store of chunks, for Milvus and its memory twin."""

from __future__ import annotations

import multiprocessing
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.indexer.ports import VectorStore
from infra.memory.milvus import MemoryChunks
from infra.milvus.filter_language import literal
from infra.milvus.schema import MAX_TEXT_BYTES
from infra.milvus.stores import MilvusChunks, MilvusStores
from schemas.envelope import derived_id
from schemas.errors import ConfigurationError, EverlearnError, Unavailable
from schemas.retrieval import Chunk
from tests.fixtures.indexes import index

DIMENSION = 4
NASTY = (
    'a "quoted" id',
    "a 'single' one",
    "back\\slash\\",
    "two\nlines\r\tand a tab",
    '" or version != "',
    "é 漢 🙂",
    "%",
    "'",
)
Store = MilvusChunks | MemoryChunks


@pytest.fixture(params=["memory", "milvus"])
def chunks(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryChunks()
        return
    uri, model = request.getfixturevalue("milvus_uri"), request.getfixturevalue("unique_index")
    store = MilvusChunks(uri, None, model, DIMENSION)
    yield store
    store.close()


def chunk(document_id: str = "d", version: str = "v1", ordinal: int = 0, **others: Any) -> Chunk:
    tenant = others.pop("tenant", "default")
    return Chunk(
        chunk_id=derived_id("chunk", tenant, document_id, version, ordinal),
        tenant=tenant,
        document_id=document_id,
        version=version,
        ordinal=ordinal,
        text=others.pop("text", f"text {ordinal} of {document_id}"),
        **others,
    )


def vector(*values: float) -> NDArray[np.float32]:
    return np.array(values + (0.0,) * (DIMENSION - len(values)), dtype=np.float32)


def rows(*vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack(vectors)


def found(store: Store, query: NDArray[np.float32], k: int = 10, tenant: str = "default") -> list[Chunk]:
    return [hit.chunk for hit in store.search(rows(query), tenant=tenant, k=k)[0]]


def test_a_chunk_is_found_as_it_was_written(chunks: Store) -> None:
    whole = chunk(title="A title", uri="https://example.org/a?b=c", text='línea\n\n\ttext\\ "it" 漢🙂')
    bare = chunk(ordinal=1)
    chunks.upsert([whole, bare], rows(vector(1), vector(0, 1)))
    assert found(chunks, vector(1, 0.1)) == [whole, bare]


def test_the_score_is_cosine_similarity_best_first(chunks: Store) -> None:
    chunks.upsert([chunk("a"), chunk("b"), chunk("c")], rows(vector(2), vector(1, 1), vector(-1)))
    hits = chunks.search(rows(vector(1)), tenant="default", k=3)[0]
    assert [hit.chunk.document_id for hit in hits] == ["a", "b", "c"]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.5**0.5, -1.0], abs=1e-5)


def test_equal_scores_are_ordered_by_chunk_id(chunks: Store) -> None:
    same = [chunk(f"d{number}") for number in range(6)]
    chunks.upsert(same, rows(*[vector(1)] * 6))
    assert found(chunks, vector(1)) == sorted(same, key=lambda each: each.chunk_id)


def test_each_query_gets_its_own_k_hits(chunks: Store) -> None:
    chunks.upsert([chunk("a"), chunk("b"), chunk("c")], rows(vector(1), vector(0, 1), vector(0, 0, 1)))
    first, second = chunks.search(rows(vector(1), vector(0, 0, 1)), tenant="default", k=1)
    assert [hit.chunk.document_id for hit in (*first, *second)] == ["a", "c"]


def test_no_queries_and_no_chunks_are_no_hits(chunks: Store) -> None:
    assert chunks.search(np.zeros((0, DIMENSION), dtype=np.float32), tenant="default", k=3) == []
    assert chunks.search(rows(vector(1)), tenant="default", k=3) == [[]]
    chunks.upsert([], np.zeros((0, DIMENSION), dtype=np.float32))
    chunks.delete([])


def test_a_tenant_finds_its_own_chunks_only(chunks: Store) -> None:
    mine, theirs = chunk(tenant="mine"), chunk(tenant="theirs")
    chunks.upsert([mine, theirs], rows(vector(1), vector(1)))
    assert found(chunks, vector(1), tenant="mine") == [mine]
    assert found(chunks, vector(1), tenant='mine" or tenant != "') == []


def test_writing_twice_is_writing_once_and_the_last_text_counts(chunks: Store) -> None:
    chunks.upsert([chunk(text="old")], rows(vector(1)))
    chunks.upsert([chunk(text="old")], rows(vector(1)))
    chunks.upsert([chunk(text="new")], rows(vector(0, 1)))
    assert [each.text for each in found(chunks, vector(1))] == ["new"]


def test_deleting_a_version_leaves_the_other_versions_and_documents(chunks: Store) -> None:
    gone = [chunk("d", "v1", ordinal) for ordinal in range(3)]
    kept = [chunk("d", "v2"), chunk("e", "v3"), chunk("f", "v10")]
    chunks.upsert(gone + kept, rows(*[vector(1)] * 6))
    chunks.delete([("default", "d", "v1")])
    chunks.delete([("default", "d", "v1")])
    assert {each.chunk_id for each in found(chunks, vector(1))} == {each.chunk_id for each in kept}


def test_deleting_what_never_was_is_harmless(chunks: Store) -> None:
    chunks.upsert([chunk()], rows(vector(1)))
    chunks.delete([("default", "d", "v9"), ("nobody", "x", "v8")])
    assert found(chunks, vector(1)) == [chunk()]


def test_many_versions_are_deleted_at_once(chunks: Store) -> None:
    every = [chunk(f"d{number}", f"v{number}") for number in range(600)]
    chunks.upsert(every, rows(*[vector(1, number) for number in range(600)]))
    chunks.delete([(each.tenant, each.document_id, each.version) for each in every[1:]])
    assert found(chunks, vector(1), k=700) == every[:1]


@pytest.mark.parametrize("text", NASTY)
def test_ids_hold_any_characters_and_break_out_of_no_filter(chunks: Store, text: str) -> None:
    wanted, other = chunk(text, f"v {text}"), chunk("other", "v other")
    chunks.upsert([wanted, other], rows(vector(1), vector(1, 0.5)))
    assert found(chunks, vector(1)) == [wanted, other]
    assert chunks.versions("default", text) == {f"v {text}": 1}
    chunks.delete([("default", text, f"v {text}")])
    assert found(chunks, vector(1)) == [other]


def test_the_longest_text_and_ids_fit(chunks: Store) -> None:
    longest = chunk("漢" * 512, text="漢" * (MAX_TEXT_BYTES // 3), title="🙂" * 1000, uri="é" * 2000)
    chunks.upsert([longest], rows(vector(1)))
    assert found(chunks, vector(1)) == [longest]


@pytest.fixture
def milvus(milvus_uri: str, unique_index: str) -> Iterator[MilvusChunks]:
    store = MilvusChunks(milvus_uri, None, unique_index, DIMENSION)
    yield store
    store.close()


def test_another_client_finds_a_chunk_once_upsert_returned(
    milvus: MilvusChunks, milvus_uri: str, unique_index: str
) -> None:
    reader = MilvusChunks(milvus_uri, None, unique_index, DIMENSION)
    for number in range(20):
        written = chunk(f"d{number}", f"v{number}")
        milvus.upsert([written], rows(vector(1, number)))
        assert written in found(reader, vector(1, number), k=50)
        milvus.delete([(written.tenant, written.document_id, written.version)])
        assert found(reader, vector(1, number), k=50) == []
    reader.close()


def test_an_upsert_larger_than_a_message_is_written_whole(milvus: MilvusChunks) -> None:
    big = [chunk(f"d{number}", text="x" * 16_000) for number in range(300)]
    milvus.upsert(big, rows(*[vector(1, number) for number in range(300)]))
    assert len(found(milvus, vector(1), k=400)) == 300


def _write_from_a_process(uri: str, model: str, number: int) -> None:
    store = MilvusChunks(uri, None, model, DIMENSION)
    for at in range(10):
        store.upsert([chunk(f"{number}-{at}-{i}") for i in range(20)], np.ones((20, DIMENSION), dtype=np.float32))
    store.close()


def test_processes_that_make_the_same_collection_at_once_all_write_to_it(
    milvus: MilvusChunks, milvus_uri: str, unique_index: str
) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__, "pymilvus"])  # once for all of them
    write = _write_from_a_process
    writers = [processes.Process(target=write, args=(milvus_uri, unique_index, each)) for each in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(found(milvus, vector(1), k=1000)) == 600


def test_a_vector_of_the_wrong_size_is_refused_in_one_line(milvus: MilvusChunks) -> None:
    with pytest.raises(EverlearnError, match="refused") as caught:
        milvus.upsert([chunk()], np.ones((1, DIMENSION + 1), dtype=np.float32))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, Unavailable)
    milvus.upsert([chunk()], rows(vector(1)))
    assert found(milvus, vector(1)) == [chunk()]


def test_an_address_where_nothing_answers_is_unavailable_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    store = MilvusChunks("http://127.0.0.1:1", None, "m", DIMENSION)
    with pytest.raises(Unavailable, match=r"^Milvus at http://127\.0\.0\.1:1 does not answer: "):
        store.upsert([chunk()], rows(vector(1)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "uri", ["", "nonsense", "milvus.db", "http://", "http://host:port", "http://[::1", "http://host:99999"]
)
def test_an_address_that_is_none_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[milvus\] uri"):
        MilvusChunks(uri, None, "m", DIMENSION).prepare()


def test_a_literal_stays_inside_its_quotes() -> None:
    assert literal('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'


def test_collections_of_ours_that_no_index_names_are_found_and_dropped(milvus_uri: str) -> None:
    named, lost = uuid.uuid4().hex[:16], uuid.uuid4().hex[:16]
    earlier, others = f"all_MiniLM_L6_v2_384_{uuid.uuid4().hex[:8]}", f"of_somebody_else_{uuid.uuid4().hex[:8]}"
    for index_id in (named, lost, earlier, others):
        with closing(MilvusChunks(milvus_uri, None, index_id, DIMENSION)) as store:
            store.prepare()
    with closing(MilvusStores(milvus_uri, None)) as stores:
        found = stores.strays([index(named)])
        ours = {name: found.get(f"chunks_{name}") for name in (named, lost, earlier, others)}
        assert ours == {named: None, lost: False, earlier: True, others: None}
        stores.drop_stray(f"chunks_{lost}")
        stores.drop_stray(f"chunks_{earlier}")
        after = stores.strays([index(named)])
    assert not {f"chunks_{lost}", f"chunks_{earlier}"} & after.keys()


def test_both_satisfy_the_indexers_port(milvus: MilvusChunks) -> None:
    stores: list[VectorStore] = [milvus, MemoryChunks()]
    assert len(stores) == 2
    assert replace(chunk(), version="v2") != chunk()
