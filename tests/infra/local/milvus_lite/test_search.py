"""The embedded Milvus finds what the library's own search finds, after any history of writes."""

from __future__ import annotations

import math
import random
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from milvus_lite.engine.collection import Collection
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema, Function, FunctionType

from infra.local.milvus_lite.collection import SearchedCollection

DIMENSION = 8
WORDS = ["red", "green", "blue", "one", "two", "three", "Straße", "漢"]
FILTERS = (
    None,
    'tenant == "a"',
    'tenant in ["a", "b"] and not (number >= 30)',
    'metadata["lang"] == "en"',
    'metadata["lang"] != "en"',
    'not (metadata["lang"] == "en")',
    'tenant == "a" and (metadata["lang"] == "en" or metadata["year"] < 2003)',
    'metadata["year"] >= 2002 and metadata["year"] < 2005',
    'json_contains(metadata["tags"], "x") or json_contains_any(metadata["tags"], ["z", "y"])',
    'metadata["lang"] is null',
    'exists metadata["lang"]',
    'title is null or title like "T1%"',
    'metadata["mixed"] > 3',
    'text_match(text, "red")',
    'tenant == "nobody"',
)
SCHEMA = CollectionSchema(
    fields=[
        FieldSchema(name="id", dtype=DataType.VARCHAR, is_primary=True, max_length=64),
        FieldSchema(name="tenant", dtype=DataType.VARCHAR, max_length=64),
        FieldSchema(name="number", dtype=DataType.INT64),
        FieldSchema(name="title", dtype=DataType.VARCHAR, max_length=64, nullable=True),
        FieldSchema(name="text", dtype=DataType.VARCHAR, max_length=4000, enable_analyzer=True, enable_match=True),
        FieldSchema(name="metadata", dtype=DataType.JSON, nullable=True),
        FieldSchema(name="vector", dtype=DataType.FLOAT_VECTOR, dim=DIMENSION),
        FieldSchema(name="sparse", dtype=DataType.SPARSE_FLOAT_VECTOR, is_function_output=True),
    ],
    functions=[
        Function(
            name="words", function_type=FunctionType.BM25, input_field_names=["text"], output_field_names=["sparse"]
        )
    ],
)
INDEXES = {
    "vector": {"index_type": "FLAT", "metric_type": "COSINE"},
    "sparse": {"index_type": "SPARSE_INVERTED_INDEX", "metric_type": "BM25"},
}


class History:
    """Random writes to a collection; ``rows`` is what should be in it."""

    def __init__(self, folder: Path, seed: int, kind: type[SearchedCollection] = SearchedCollection) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}
        self.collection: Any = kind("test", str(folder), SCHEMA)
        for field, index in INDEXES.items():
            self.collection.create_index(field, index)
        self.collection.load()

    def step(self) -> None:
        kind = self.random.choices(("upsert", "delete", "erase", "flush", "reload"), (60, 15, 5, 17, 3))[0]
        getattr(self, kind)()

    def upsert(self) -> None:
        rows = [self.row(f"r{self.random.randrange(120)}") for _ in range(self.random.choice((1, 3, 20)))]
        self.collection.upsert([dict(row) for row in {row["id"]: row for row in rows}.values()])
        self.rows |= {row["id"]: row for row in rows}

    def row(self, name: str) -> dict[str, Any]:
        pick = self.random
        metadata = {
            "lang": pick.choice(("en", "de", None)),
            "year": pick.randrange(2000, 2008),
            "tags": pick.sample(("x", "y", "z"), pick.randrange(3)),
            "mixed": pick.choice((1, 5, "5", 3.5, True, [4])),
        }
        return {
            "id": name,
            "tenant": pick.choice("aab"),
            "number": pick.randrange(50),
            "title": pick.choice((None, "T1", "T12", "U")),
            "text": " ".join(pick.choices(WORDS, range(len(WORDS), 0, -1), k=pick.randrange(0, 30))),
            "metadata": pick.choice((None, {}, {key: metadata[key] for key in pick.sample(sorted(metadata), 3)})),
            "vector": [pick.gauss(0, 1) for _ in range(DIMENSION)] if pick.random() < 0.95 else [0.0] * DIMENSION,
        }

    def delete(self) -> None:
        names = [f"r{self.random.randrange(120)}" for _ in range(self.random.choice((1, 10)))]
        self.collection.delete(names)
        self.rows = {name: row for name, row in self.rows.items() if name not in names}

    def erase(self) -> None:
        number = self.random.randrange(50)
        found = self.collection.query(f"number in [{number}, {number + 1}]", output_fields=["id"])
        gone = {name for name, row in self.rows.items() if row["number"] in (number, number + 1)}
        assert {row["id"] for row in found} == gone
        if gone:
            self.collection.delete(sorted(gone))
        self.rows = {name: row for name, row in self.rows.items() if name not in gone}

    def flush(self) -> None:
        self.collection.flush()
        if self.random.random() < 0.5:
            self.collection._wait_for_bg()

    def reload(self) -> None:
        self.collection.close()
        self.collection = SearchedCollection("test", str(self.folder), SCHEMA)
        self.collection.load()


@pytest.fixture(params=range(3))
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[History]:
    history = History(tmp_path / "data", request.param)
    yield history
    history.collection.close()


def library(history: History, folder: Path) -> Collection:
    """The library's own collection of the same rows, as they lie on the disk."""
    history.collection._wait_for_bg()
    shutil.copytree(history.folder, folder)
    collection = Collection("test", str(folder), SCHEMA)
    collection.load()
    return collection


def bm25(rows: dict[str, dict[str, Any]], query: str) -> dict[str, float]:
    """The score of each row that has a word of the query, worked out row by row."""
    counts = {name: Counter(row["text"].lower().split()) for name, row in rows.items()}
    mean = sum(sum(each.values()) for each in counts.values()) / len(counts)
    scores: dict[str, float] = {}
    for word, times in Counter(query.lower().split()).items():
        holders = sum(word in each for each in counts.values())
        idf = math.log((len(counts) - holders + 0.5) / (holders + 0.5) + 1)
        for name, each in counts.items():
            if word in each:
                saturation = 1.5 * (1 - 0.75 + 0.75 * sum(each.values()) / mean)
                scores[name] = scores.get(name, 0) + times * idf * each[word] * 2.5 / (each[word] + saturation)
    return scores


def same(mine: list[list[dict[str, Any]]], theirs: list[list[dict[str, Any]]]) -> None:
    """Equal distances in order, and equal rows but where distances tie."""
    for hits, others in zip(mine, theirs, strict=True):
        distances = [hit["distance"] for hit in hits]
        assert distances == pytest.approx([hit["distance"] for hit in others], abs=1e-5)
        last = distances[-1] if distances else 0.0
        inner = [
            {hit["id"]: hit["entity"] for hit in each if abs(hit["distance"] - last) > 1e-5} for each in (hits, others)
        ]
        assert inner[0] == inner[1]


def test_a_vector_search_a_query_and_a_get_answer_as_the_library_does(history: History, tmp_path: Path) -> None:
    for part in range(4):
        for _ in range(15):
            history.step()
        queries = [[history.random.gauss(0, 1) for _ in range(DIMENSION)] for _ in range(3)]
        with closing(library(history, tmp_path / f"copy-{part}")) as collection:
            for where in FILTERS:
                for fields in (None, ["text", "metadata", "id"]):
                    asked: dict[str, Any] = {
                        "top_k": 16,
                        "expr": where,
                        "output_fields": fields,
                        "anns_field": "vector",
                    }
                    same(history.collection.search(queries, **asked), collection.search(queries, **asked))
                    asked |= {"top_k": 5, "offset": 3}
                    same(history.collection.search(queries, **asked), collection.search(queries, **asked))
                found = [each.query(where, output_fields=["*"]) for each in (history.collection, collection)]
                assert sorted(found[0], key=lambda row: row["id"]) == sorted(found[1], key=lambda row: row["id"])
            names = [f"r{number}" for number in range(121)]
            assert history.collection.get(names) == collection.get(names)
            assert history.collection.num_entities == collection.num_entities == len(history.rows)


def test_a_text_search_scores_by_bm25_over_all_live_rows(history: History) -> None:
    for _ in range(4):
        for _ in range(15):
            history.step()
        for where in FILTERS:
            allowed = {row["id"] for row in history.collection.query(where, output_fields=["id"])}
            query = " ".join(history.random.choices([*WORDS, "unknown"], k=4))
            scores = {name: score for name, score in bm25(history.rows, query).items() if name in allowed}
            (hits,) = history.collection.search(
                [query], top_k=16, anns_field="sparse", expr=where, output_fields=["text"]
            )
            expected = sorted(scores.values(), reverse=True)[:16]
            assert [-hit["distance"] for hit in hits] == pytest.approx(expected, abs=1e-4)
            assert all(scores[hit["id"]] == pytest.approx(-hit["distance"], abs=1e-4) for hit in hits)
            assert all(hit["entity"] == {"text": history.rows[hit["id"]]["text"]} for hit in hits)


class CountingCollection(SearchedCollection):
    """Counts its rows just before and after the set of segments changes."""

    def segments_changed(self, segments: Sequence[Any], *, rows_return: bool = False) -> None:
        self.counts = [self.num_entities]
        super().segments_changed(segments, rows_return=rows_return)
        self.counts.append(self.num_entities)


def test_rows_stay_visible_while_they_are_written_out(tmp_path: Path) -> None:
    history = History(tmp_path / "data", 0, CountingCollection)
    history.collection.upsert([history.row(f"w{number}") for number in range(20)])
    history.collection.flush()
    assert history.collection.counts == [20, 20]
    history.collection.close()


def test_a_search_beside_a_writer_finds_each_row_once(tmp_path: Path) -> None:
    history = History(tmp_path / "data", 1)
    collection = history.collection

    def overwrite() -> None:
        names = [f"w{number}" for number in range(40)]
        for _ in range(12):
            history.random.shuffle(names)
            for start in range(0, 40, 8):
                collection.upsert([history.row(name) for name in names[start : start + 8]])
            collection.flush()

    collection.upsert([history.row(f"w{number}") for number in range(40)])
    writer = threading.Thread(target=overwrite)
    writer.start()
    counts = set()
    while writer.is_alive():
        (hits,) = collection.search([[1.0] * DIMENSION], top_k=100, output_fields=["tenant"])
        counts.add((len(hits), len({hit["id"] for hit in hits})))
        counts.add((len(collection.get([f"w{number}" for number in range(40)])),) * 2)
    writer.join()
    assert counts == {(40, 40)}
    collection.close()
