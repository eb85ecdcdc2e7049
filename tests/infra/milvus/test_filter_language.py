"""Milvus finds by a filter exactly what ``schemas.filters.matches`` says, whatever the metadata hold."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from infra.milvus.filter_language import expression, from_stored, to_stored
from infra.milvus.stores import MilvusChunks
from schemas.filters import MAX_DEPTH, MAX_VALUES, Both, Compare, Filter, FilterValue, In, Not, matches, parse_filter
from schemas.retrieval import Chunk

KEYS = ("a", "lang", 'quo"ted', "back\\slash", "n:a", "ключ 漢", "dotted.key", "new\nline")
TEXTS = ("", "en", "EN", "de", 'a "quoted" one', "back\\", "é 漢🙂", "1", "true", "two\nlines", '" or tenant != "')
NUMBERS = (
    0,
    1,
    -1,
    2,
    2024,
    -3.5,
    0.1,
    1.0,
    1e30,
    2**53,
    2**53 + 1,
    2**53 - 1,
    10**18,
    10**30,
    10**400,
    -(10**17),
    1e-7,
)
DOCUMENTS = 60
FILTERS = 150


def a_value(choose: random.Random) -> FilterValue:
    return choose.choice((choose.choice(TEXTS), choose.choice(NUMBERS), choose.choice((True, False))))


def a_metadata(choose: random.Random) -> dict[str, FilterValue]:
    return {key: a_value(choose) for key in KEYS if choose.random() < 0.5}


def a_filter(choose: random.Random, depth: int = 0) -> Filter:
    kind = choose.random()
    if depth < 4 and kind < 0.2:
        return Not(a_filter(choose, depth + 1))
    if depth < 4 and kind < 0.6:
        return Both(a_filter(choose, depth + 1), a_filter(choose, depth + 1), either=choose.random() < 0.5)
    key = choose.choice(KEYS)
    if kind < 0.75:
        values = choose.choice((TEXTS, NUMBERS, (True, False)))
        return In(key, tuple(choose.choices(values, k=choose.randint(1, 4))))
    value = a_value(choose)
    return Compare(
        key, choose.choice(("=", "!=") if isinstance(value, bool) else ("=", "!=", "<", "<=", ">", ">=")), value
    )


@pytest.fixture
def store(milvus_uri: str, unique_index: str) -> Iterator[MilvusChunks]:
    chunks = MilvusChunks(milvus_uri, None, unique_index, 2)
    yield chunks
    chunks.close()


def write(store: MilvusChunks, metadatas: list[dict[str, FilterValue]]) -> None:
    chunks = [
        Chunk(
            chunk_id=f"{number:03}", tenant="t", document_id=str(number), version=str(number), ordinal=0, text="x",
            metadata=metadata,
        )
        for number, metadata in enumerate(metadatas)
    ]  # fmt: skip
    store.upsert(chunks, np.ones((len(chunks), 2), dtype=np.float32))


def found(store: MilvusChunks, where: Filter | None) -> list[int]:
    [hits] = store.search(np.ones((1, 2), dtype=np.float32), tenant="t", k=500, where=where)
    return [int(hit.chunk.chunk_id) for hit in hits]


def test_milvus_finds_what_the_filters_own_meaning_says(store: MilvusChunks) -> None:
    choose = random.Random(20)
    metadatas = [{}, *(a_metadata(choose) for _ in range(DOCUMENTS - 1))]
    write(store, metadatas)
    some = 0
    for _ in range(FILTERS):
        where = a_filter(choose)
        expected = [number for number, metadata in enumerate(metadatas) if matches(where, metadata)]
        assert found(store, where) == expected, where
        some += 0 < len(expected) < DOCUMENTS
    assert some > FILTERS / 2  # else the filters would prove nothing


def test_the_widest_and_the_deepest_filters_are_taken(store: MilvusChunks) -> None:
    write(store, [{"a": number} for number in range(100)])
    wide = " or ".join(f"a = {number}" for number in range(MAX_VALUES))
    listed = ", ".join(map(str, range(MAX_VALUES)))
    deep = "not (" * (MAX_DEPTH // 2) + "a < 10" + ")" * (MAX_DEPTH // 2)
    steps = "(a = 1 and b = 1 or " * (MAX_DEPTH - 1) + "a = 5" + ")" * (MAX_DEPTH - 1)
    assert found(store, parse_filter(wide)) == list(range(MAX_VALUES))
    assert found(store, parse_filter(f"a in ({listed})")) == list(range(MAX_VALUES))
    assert found(store, parse_filter(f"not a in ({listed})")) == list(range(MAX_VALUES, 100))
    assert found(store, parse_filter(deep)) == list(range(10))
    assert found(store, parse_filter(steps)) == [5]


def test_a_chunks_metadata_come_back_as_they_were_written(store: MilvusChunks) -> None:
    metadata: dict[str, FilterValue] = {"a": 1, "b": 1.5, "c": True, "d": "é", "n:e": "", "new\nline": -(2**53)}
    write(store, [metadata])
    [[hit]] = store.search(np.ones((1, 2), dtype=np.float32), tenant="t", k=1)
    assert dict(hit.chunk.metadata) == metadata
    assert {key: type(value) for key, value in hit.chunk.metadata.items()} == {
        key: type(value) for key, value in metadata.items()
    }
    assert from_stored(to_stored(metadata)) == metadata


@pytest.mark.parametrize("text", TEXTS)
def test_what_a_user_wrote_stays_inside_quotes(text: str) -> None:
    compiled = expression("t", Compare(text or "k", "=", text))
    outside, inside, escaped = "", False, False
    for character in compiled:
        if escaped:
            escaped = False
        elif inside and character == "\\":
            escaped = True
        elif character == '"':
            inside = not inside
        elif not inside:
            outside += character
    assert (inside, outside) == (False, "tenant ==  and ($meta[] == )")
