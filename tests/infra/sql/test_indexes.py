"""The contract of the tables of indexes, of cached vectors, and of the documents' texts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from infra.memory.database import MemoryDatabase
from schemas.documents import DocumentSubmitted
from schemas.features import DocumentState
from schemas.indexes import Index
from tests.fixtures.indexes import index
from tests.fixtures.sql import Stores

NOW = datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def add(stores: Stores, *indexes: Index) -> None:
    with stores.database.transaction():
        stores.indexes.hold()
        for each in indexes:
            stores.indexes.add(each)


def states(stores: Stores) -> dict[str, str]:
    return {each.index_id: each.state for each in stores.indexes.all()}


def test_an_index_comes_back_as_it_was_added_and_once(stores: Stores):
    first = index("b", "support", model="müller/x", chunk_tokens=100, overlap_tokens=0, state="building")
    other = replace(index("a"), served_at=NOW)
    add(stores, first, other)
    add(stores, index("b", "support", chunk_tokens=7))

    assert stores.indexes.all() == [other, first]
    assert stores.indexes.active() == [other, first]


def test_a_new_index_that_serves_retires_the_one_before_of_its_scope_alone(stores: Stores):
    building = [index("new", state="building"), index("next", state="building")]
    add(stores, index("old"), index("own", "support"), *building)
    with stores.database.transaction():
        stores.indexes.hold()
        stores.indexes.serve("new", NOW)

    assert states(stores) == {"new": "serving", "next": "building", "old": "retired", "own": "serving"}
    assert {each.index_id: each.served_at for each in stores.indexes.all()}["new"] == NOW
    assert [each.index_id for each in stores.indexes.active()] == ["new", "next", "own"]


def test_a_retired_index_is_kept_until_it_is_removed(stores: Stores):
    add(stores, index("a"), index("b", state="building"))
    with stores.database.transaction():
        stores.indexes.hold()
        stores.indexes.retire("b")
    assert states(stores) == {"a": "serving", "b": "retired"}

    stores.indexes.remove("b")
    stores.indexes.remove("never")
    assert states(stores) == {"a": "serving"}


def test_a_change_that_is_rolled_back_did_not_happen(stores: Stores):
    add(stores, index("a"), index("b", state="building"))
    with pytest.raises(ZeroDivisionError):
        serve_and_fail(stores)

    assert states(stores) == {"a": "serving", "b": "building"}


def serve_and_fail(stores: Stores) -> None:
    with stores.database.transaction():
        stores.indexes.hold()
        stores.indexes.serve("b", NOW)
        assert states(stores)["b"] == "serving"
        raise ZeroDivisionError


def vector(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_a_vector_is_found_by_its_model_and_text_exactly_as_it_was_put(stores: Stores):
    stores.vectors.put("m", {"x": vector(0.1, -2.5), "y": vector(3, 4)}, NOW)
    stores.vectors.put("n", {"x": vector(9)}, NOW)
    stores.vectors.put("m", {"x": vector(7, 7)}, NOW)
    stores.vectors.put("m", {}, NOW)

    found = stores.vectors.find("m", ["x", "y", "z"], NOW)
    assert {each: (made.dtype, made.tolist()) for each, made in found.items()} == {
        "x": (np.dtype("float32"), vector(0.1, -2.5).tolist()),
        "y": (np.dtype("float32"), [3.0, 4.0]),
    }
    assert stores.vectors.find("m", [], NOW) == {}


def test_what_was_not_used_for_long_is_forgotten_and_what_was_used_stays(stores: Stores):
    stores.vectors.put("m", {"used": vector(1), "unused": vector(2)}, NOW)
    stores.vectors.find("m", ["used"], NOW + 5 * DAY)

    assert stores.vectors.prune(NOW + 2 * DAY) == 1
    assert list(stores.vectors.find("m", ["used", "unused"], NOW + 5 * DAY)) == ["used"]


def test_1500_vectors_are_put_and_found_at_once(stores: Stores):
    stores.vectors.put("m", {str(number): vector(number) for number in range(1500)}, NOW)
    found = stores.vectors.find("m", [str(number) for number in range(2000)], NOW + 3 * DAY)
    assert len(found) == 1500
    assert found["1499"].tolist() == [1499.0]


def state(document_id: str, tenant: str = "default", version: str = "v1", chunk_count: int = 2) -> DocumentState:
    return DocumentState(
        tenant=tenant,
        document_id=document_id,
        version=version,
        content_hash="abc",
        chunk_count=chunk_count,
        embedding_model="before",
        title=None,
        uri=None,
        submitted_at=NOW,
        event_id="e1",
    )


def content(document_id: str, text: str = "té\nxt 🙂", tenant: str = "default") -> DocumentSubmitted:
    metadata: dict[str, str | int | float | bool] = {"a": 1, "b": 1.0, "c": True, "d": "é"}
    return DocumentSubmitted(
        document_id=document_id, tenant=tenant, text=text, metadata=metadata, format="markdown", submitted_at=NOW
    )


def put(stores: Stores, state: DocumentState, content: DocumentSubmitted | None = None) -> None:
    with stores.database.transaction():
        stores.documents.put(state, content)


def test_pages_go_through_what_stands_in_order_with_what_it_was_made_from(stores: Stores):
    for tenant, name in (("b", "a"), ("a", "z"), ("a", "Z"), ("a", "ä"), ("b", "a/b"), ("a", "")):
        put(stores, state(name or "x", tenant), content(name or "x", tenant=tenant))
    put(stores, replace(state("gone", "a"), withdrawn=True, version=""))

    read, after = [], None
    while page := stores.documents.page(after, 2):
        assert len(page) <= 2
        read += page
        after = (page[-1][0].tenant, page[-1][0].document_id)
    keys = [(each.tenant, each.document_id) for each, _ in read]
    assert sorted(keys) == sorted({("b", "a"), ("a", "z"), ("a", "Z"), ("a", "ä"), ("b", "a/b"), ("a", "x")})
    assert all(made == content(each.document_id, tenant=each.tenant) for each, made in read)


def test_what_a_document_was_made_from_follows_its_versions(stores: Stores):
    put(stores, state("d"), content("d"))
    put(stores, replace(state("d"), event_id="e2"))
    assert stores.documents.page(None, 5) == [(replace(state("d"), event_id="e2"), content("d"))]

    put(stores, state("d", version="v2"), content("d", "new"))
    assert stores.documents.page(None, 5) == [(state("d", version="v2"), content("d", "new"))]

    put(stores, replace(state("d", version=""), withdrawn=True))
    put(stores, state("d", version="v3"))
    assert stores.documents.page(None, 5) == [(state("d", version="v3"), None)]


def test_counts_of_the_next_index_are_of_the_version_that_stands_and_are_adopted_at_the_switch(stores: Stores):
    for name, version in (("counted", "v1"), ("replaced", "v2"), ("uncounted", "v1")):
        put(stores, state(name, version=version), content(name))
    put(stores, replace(state("gone", version="", chunk_count=0), withdrawn=True))
    stores.documents.count_next({("default", name): ("v1", 9) for name in ("counted", "replaced", "gone", "never")})
    assert {each.document_id: each.next_chunk_count for each, _ in stores.documents.page(None, 9)} == {
        "counted": 9,
        "replaced": None,
        "uncounted": None,
    }
    assert stores.documents.totals() == (3, 6)

    with stores.database.transaction():
        stores.documents.adopt_counts("after")

    assert stores.documents.totals() == (3, 13)
    found = [each for each, _ in stores.documents.page(None, 9)]
    assert {(each.next_chunk_count, each.embedding_model) for each in found} == {(None, "after")}
    [gone] = stores.documents.current([("default", "gone")]).values()
    assert gone.embedding_model == "before"


def test_long_texts_are_read_a_few_at_a_time(stores: Stores):
    names = [f"d{number:02}" for number in range(8)]
    for name in names:
        stores.documents.put(state(name), content(name, "x" * 1_500_000))
    seen: list[str] = []
    sizes = []
    while page := stores.documents.page(("default", seen[-1]) if seen else None, 128):
        seen += [each.document_id for each, _ in page]
        sizes.append(len(page))
    assert seen == names
    assert isinstance(stores.database, MemoryDatabase) or sizes == [6, 2]
