"""Measures the speed of the embedded Milvus with more and more chunks, compared with one matrix-vector product.

``python -m benchmarks.search_scale [--chunks N ...] [--repeats N]`` starts the server in a temporary folder, writes
synthetic chunks (random vectors, words drawn by Zipf's law), and measures calls through pymilvus, one query per call.
The product multiplies the same vectors with one query by numpy in this process: an exact search cannot do less.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.local.free_port import free_port
from infra.local.milvus_lite import program as milvus
from schemas.event import JsonObject

DIMENSION = 384
WORDS = 30_000
CHUNK_WORDS = 110
QUESTION_WORDS = 10
K = 16
BATCH = 500
ROWS_WRITTEN = 5
TENANT = 'tenant == "default"'
STORED = ("chunk_id", "tenant", "document_id", "version", "ordinal", "text", "title", "uri", "metadata")


class Corpus:
    """Generates chunks from a seed; they are the same in every run."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        letters = self._random.integers(97, 123, size=(WORDS, 12), dtype=np.uint8)
        lengths = np.clip(self._random.poisson(5.5, WORDS), 2, 12)
        self._words = np.array([bytes(row[:n]).decode() for row, n in zip(letters, lengths, strict=True)], dtype=object)
        share = 1 / np.arange(1, WORDS + 1)
        self._edges = np.cumsum(share / share.sum())

    def text(self, words: int) -> str:
        drawn = np.searchsorted(self._edges, self._random.random(words))
        return " ".join(self._words[np.minimum(drawn, WORDS - 1)])

    def vectors(self, count: int) -> NDArray[np.float32]:
        return self._random.standard_normal((count, DIMENSION), dtype=np.float32)

    def rows(self, first: int, count: int) -> Iterator[JsonObject]:
        for number, vector in enumerate(self.vectors(count), first):
            document = number // 10
            yield {
                "chunk_id": f"chunk-{number:08d}",
                "tenant": "default",
                "document_id": f"document-{document}",
                "version": f"version-{document}",
                "ordinal": number % 10,
                "text": self.text(max(1, int(self._random.normal(CHUNK_WORDS, 25)))),
                "title": f"Document {document}",
                "uri": None,
                "metadata": {"lang": ("en", "de", "fr")[document % 3], "year": 2000 + document % 25},
                "vector": vector.tolist(),
            }


class Measured:
    """Starts a server with one collection, and has the calls that are timed."""

    def __init__(self, folder: Path) -> None:
        from pymilvus import MilvusClient

        port = free_port()
        self.server = subprocess.Popen(milvus.command(folder, port))
        if not milvus.ready(port, 60):
            raise SystemExit("the embedded Milvus did not start")
        self.client = MilvusClient(milvus.uri(port))
        self._make()

    def close(self) -> None:
        self.client.close()
        self.server.terminate()
        self.server.wait()

    def _make(self) -> None:
        from pymilvus import DataType, Function, FunctionType

        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("chunk_id", DataType.VARCHAR, is_primary=True, max_length=64)
        for name, length in (("tenant", 64), ("document_id", 2048), ("version", 64)):
            schema.add_field(name, DataType.VARCHAR, max_length=length)
        schema.add_field("ordinal", DataType.INT64)
        schema.add_field("text", DataType.VARCHAR, max_length=65_535, enable_analyzer=True)
        schema.add_field("title", DataType.VARCHAR, max_length=4000, nullable=True)
        schema.add_field("uri", DataType.VARCHAR, max_length=8000, nullable=True)
        schema.add_field("metadata", DataType.JSON, nullable=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIMENSION)
        schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        schema.add_function(
            Function("words", FunctionType.BM25, input_field_names=["text"], output_field_names=["sparse"])
        )
        index = self.client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="COSINE")
        index.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        self.client.create_collection("chunks", schema=schema, index_params=index)
        self.client.load_collection("chunks")

    def search(self, query: list[float] | str, field: str, where: str = TENANT) -> list[object]:
        found = self.client.search(
            "chunks", data=[query], anns_field=field, limit=K, filter=where, output_fields=list(STORED),
            consistency_level="Strong",
        )  # fmt: skip
        return list(found[0])

    def upsert(self, rows: list[JsonObject]) -> None:
        self.client.upsert("chunks", rows)

    def resident_megabytes(self) -> float:
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


def timed(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Returns the milliseconds of each call."""
    took = []
    for call in calls:
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return took


def line(name: str, milliseconds: list[float]) -> None:
    p50, p95 = np.percentile(milliseconds, (50, 95))
    print(f"| {name} | {p50:.1f} | {p95:.1f} | {max(milliseconds):.1f} |", flush=True)


def measure(count: int, repeats: int) -> None:
    corpus = Corpus(seed=1)
    kept = np.empty((count, DIMENSION), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder, closing(Measured(Path(folder) / "data")) as store:
        seconds = 0.0
        for first in range(0, count, BATCH):
            rows = list(corpus.rows(first, min(BATCH, count - first)))
            kept[first : first + len(rows)] = [row["vector"] for row in rows]
            seconds += sum(timed([partial(store.upsert, rows)])) / 1000
        settle(store)
        print(
            f"\n{count:,} chunks, {count / seconds:,.0f} written/s, {store.resident_megabytes():.0f} MB resident memory"
        )
        print("\n| call | p50 ms | p95 ms | max ms |\n|---|---|---|---|")
        report(store, corpus, kept, repeats)
        print(f"\n{store.resident_megabytes():.0f} MB resident memory at the end")


def settle(store: Measured) -> None:
    """Waits until the server is idle, because compaction continues after the last write."""
    store.search(Corpus(0).vectors(1)[0].tolist(), "vector")
    store.search("word", "sparse")
    while True:
        before = Path(f"/proc/{store.server.pid}/stat").read_text().split()[13]
        time.sleep(1)
        if int(Path(f"/proc/{store.server.pid}/stat").read_text().split()[13]) - int(before) < 5:
            return


def report(store: Measured, corpus: Corpus, kept: NDArray[np.float32], repeats: int) -> None:
    count = len(kept)
    queries = corpus.vectors(repeats)
    questions = [corpus.text(QUESTION_WORDS) for _ in range(repeats)]
    by_vector = [partial(store.search, query.tolist(), "vector") for query in queries]
    by_words = [partial(store.search, question, "sparse") for question in questions]
    line("raw limit: one matrix-vector product", timed([partial(np.matmul, kept, query) for query in queries]))
    dense, text = timed(by_vector), timed(by_words)
    line("dense", dense)
    line("text", text)
    line("dense and text, one after the other", [sum(both) for both in zip(dense, text, strict=True)])
    english = f'{TENANT} and metadata["lang"] == "en"'
    line("dense, a metadata filter", timed([partial(each, where=english) for each in by_vector]))
    years = [f'{TENANT} and metadata["year"] >= {2000 + each / repeats}' for each in range(repeats)]
    line(
        "dense, a new filter each",
        timed([partial(each, where=year) for each, year in zip(by_vector, years, strict=True)]),
    )
    writes = [
        partial(store.upsert, list(corpus.rows(first, ROWS_WRITTEN)))
        for first in np.random.default_rng(2).integers(0, count - ROWS_WRITTEN, repeats)
    ]
    took = timed([each for three in zip(writes, by_vector, by_words, strict=True) for each in three])
    line(f"upsert of {ROWS_WRITTEN} chunks", took[0::3])
    line("dense, just after it", took[1::3])
    line("text, just after it", took[2::3])
    ended = threading.Event()
    writer = threading.Thread(target=write_until, args=(store, count, ended))
    writer.start()
    line("dense, beside a steady writer", timed(by_vector))
    line("text, beside a steady writer", timed(by_words))
    ended.set()
    writer.join()
    erase = partial(store.client.delete, "chunks")
    documents = np.random.default_rng(3).permutation(count // 10)[: 2 * repeats].tolist()
    versions = [f'version in ["version-{document}"]' for document in documents[:repeats]]
    line("delete of a version", timed([partial(erase, filter=where) for where in versions]))
    keys = [[f"chunk-{10 * document + each:08d}" for each in range(10)] for document in documents[repeats:]]
    line("delete of 10 keys", timed([partial(erase, ids=each) for each in keys]))


def write_until(store: Measured, count: int, ended: threading.Event) -> None:
    corpus = Corpus(seed=3)
    first = count
    while not ended.wait(0.02):
        store.upsert(list(corpus.rows(first, ROWS_WRITTEN)))
        first += ROWS_WRITTEN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chunks", type=int, nargs="+", default=[20_000, 50_000, 100_000])
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    for count in options.chunks:
        measure(count, options.repeats)


if __name__ == "__main__":
    main()
