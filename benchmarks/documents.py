"""Measures indexing: bulk loads, a growing index, the delay of single changes, and searches during a bulk load.

``python -m benchmarks.documents [bulk] [growth] [freshness] [load]`` runs each part on a fresh embedded stack, and all
parts if none is named. It compares ``bulk`` with sentence-transformers' ``encode`` and with the embedder's own
``embed``, on the same chunks and backend in this process, with the stack down.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agents.indexer.chunks import make_chunks, text_to_embed
from benchmarks.document_stack import Stack, dense, fill, now, passages, percentile, stack
from benchmarks.visible import WORDS, Visible, sentence
from infra.conversion import read_html
from infra.embedding.embedder import Embedding, model_folder
from infra.embedding.openvino import OpenVinoEmbedding
from schemas.documents import DocumentSubmitted
from schemas.topics import BULK_DOCUMENTS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PARTS = ("bulk", "growth", "freshness", "load")


def warm(running: Stack) -> None:
    """Indexes a document with each worker, so that both have loaded their model."""
    for topic in (None, BULK_DOCUMENTS):
        event = DocumentSubmitted(document_id=f"warm {topic}", text="warm up", submitted_at=now())
        with running.listening() as reader:
            running.publish([event], topic)
            running.until_indexed(reader, [event])
    running.embedder.embed(["warm up"])


def bulk(folder: Path, most: int) -> None:
    documents = passages(most)
    with stack(folder / "bulk") as running:
        warm(running)
        (index,) = running.indexes.active()
        with running.listening() as reader:
            began = time.monotonic()
            running.publish(documents, BULK_DOCUMENTS)
            through = running.until_indexed(reader, documents) - began
        loader = running.workers()["loader-1"]
        peak = _status(loader, "VmHWM")
        embedder = running.embedder
    texts = [
        text_to_embed(chunk)
        for event in documents
        for chunk in make_chunks(event, "v", embedder.token_spans, index.recipe, read_html)
    ]
    distinct = list(dict.fromkeys(texts))
    library = library_on(embedder.embedding, model_folder(embedder.model))
    print(f"bulk: {len(documents):,} documents, {len(texts):,} chunks, {len(distinct):,} of them distinct; chunks/s:")
    print(
        "| through the topic | embed alone | encode alone | ratio to encode | ratio to embed | loader's peak memory |"
    )
    print("|---|---|---|---|---|---|")
    own, encode = (
        _seconds(embedder.embed, distinct),
        _seconds(lambda some: library.encode(some, batch_size=32, normalize_embeddings=True), distinct),
    )
    print(
        f"| {len(distinct) / through:.1f} | {len(distinct) / own:.1f} | {len(distinct) / encode:.1f} | "
        f"{encode / through:.2f} | {own / through:.2f} | {peak / 1e6:.2f} GB |\n"
    )


def library_on(embedding: Embedding, folder: Path) -> SentenceTransformer:
    """Returns sentence-transformers' own model, computed by the same backend as ours."""
    import torch

    from infra.embedding.torch import load_model

    model = load_model(folder)
    if isinstance(embedding, OpenVinoEmbedding):

        def forward(features: dict[str, torch.Tensor], **_: object) -> dict[str, torch.Tensor]:
            values = {name: value.numpy() for name, value in features.items() if torch.is_tensor(value)}
            return {**features, "sentence_embedding": torch.from_numpy(embedding.run(values))}

        model.forward = forward  # type: ignore[method-assign,assignment]  # OpenVINO computes in its place
    return model


def _seconds(embed: Callable[[list[str]], object], texts: list[str]) -> float:
    embed(texts[:64])
    began = time.monotonic()
    embed(texts)
    return time.monotonic() - began


def growth(folder: Path, most: int, times: int = 10) -> None:
    """Publishes the same texts under new ids. Their embeddings are stored, so only the index grows."""
    documents = passages(most)
    print(f"growth: {len(documents):,} documents per round")
    print("| round | seconds | loader MB | indexer MB |\n|---|---|---|---|")
    with stack(folder / "growth") as running:
        warm(running)
        for number in range(1, times + 1):
            again = [each.model_copy(update={"document_id": f"{number} {each.document_id}"}) for each in documents]
            with running.listening() as reader:
                began = time.monotonic()
                running.publish(again, BULK_DOCUMENTS)
                took = running.until_indexed(reader, again) - began
            loader, indexer = (_status(running.workers()[name], "VmRSS") / 1e3 for name in ("loader-1", "indexer-1"))
            print(f"| {number} | {took:.0f} | {loader:,.0f} | {indexer:,.0f} |", flush=True)
    print()


def _status(pid: int, name: str) -> float:
    """Returns an entry of the status of a process, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name))


def freshness(folder: Path, chunks: int, each: int) -> None:
    dice = random.Random(7)
    with stack(folder / "fresh") as running:
        warm(running)
        fill(running, chunks, lambda: sentence(dice, 40))
        visible = Visible(running)
        texts = [(f"doc {n}", *(sentence(dice, 40) for _ in range(3))) for n in range(each)]
        encoding = []
        for _, *versions in texts:
            for text in versions:
                began = time.monotonic()
                visible.know(text)
                encoding.append(time.monotonic() - began)
        for name, first, *_ in texts[:3]:
            visible.know(f"warm {first}")
            visible.add(f"{name} warm", f"warm {first}")
        searching = []
        for _, first, *_ in texts:
            began = time.monotonic()
            visible.found(first)
            searching.append(time.monotonic() - began)
        added = [visible.add(name, first) for name, first, *_ in texts]
        updated = [visible.update(name, first, second) for name, first, second, _ in texts]
        for name, _, second, third in texts:
            visible.update_watched(name, second, third)
        gone = [visible.withdraw(name, third) for name, _, _, third in texts]
    own = percentile(encoding, 95)
    print(f"freshness: an index of {chunks:,} chunks, {each} changes of each kind; encode p95 {own:.0f} ms")
    print("| what | p50 ms | p95 ms | p95 without encode |\n|---|---|---|---|")
    for name, seconds, cost in (
        ("add", added, own),
        ("update", updated, own),
        ("withdraw", gone, 0.0),
        ("a search", searching, 0.0),
    ):
        late = percentile(seconds, 95)
        print(f"| {name} | {percentile(seconds, 50):.0f} | {late:.0f} | {late - cost:.0f} |")
    print(f"stale hits: {visible.stale}; searches without any version during {each} updates: {visible.missing}\n")


def load(folder: Path, most: int, seconds_idle: float = 20.0) -> None:
    dice = random.Random(11)
    documents = passages(most)
    before, documents = documents[::2], documents[1::2]
    with stack(folder / "load") as running:
        with running.listening() as reader:
            running.publish(before, BULK_DOCUMENTS)
            running.until_indexed(reader, before)
        warm(running)
        visible, retriever = Visible(running), running.retriever(embedding=True)

        def measure(until: Callable[[], bool]) -> tuple[list[float], list[float]]:
            searches, adds = [], []
            while not until():
                text = sentence(dice, 40)
                visible.know(text)
                adds.append(visible.add(f"single {text[:40]}", text))
                for _ in range(5):
                    began = time.monotonic()
                    retriever.search([replace(dense(f"what about {dice.choice(WORDS)}?"), mode="hybrid")])
                    searches.append(time.monotonic() - began)
                    time.sleep(0.05)
            return searches, adds

        measure(_after(3))
        idle = measure(_after(seconds_idle))
        done = threading.Event()

        def loading() -> None:
            with running.listening() as reader:
                running.publish(documents, BULK_DOCUMENTS)
                running.until_indexed(reader, documents)
            done.set()

        thread = threading.Thread(target=loading, daemon=True)
        began = time.monotonic()
        thread.start()
        time.sleep(0.5)
        busy = measure(done.is_set)
        took = time.monotonic() - began
    print(
        f"during a bulk load of {len(documents):,} documents ({took:.0f} s) into an index of the same size; "
        "hybrid searches, with their embedding"
    )
    print("| what | idle p50 / p95 ms | during the load | p95 ratio |\n|---|---|---|---|")
    for name, at in (("a search", 0), ("a single add", 1)):
        alone, during = percentile(idle[at], 95), percentile(busy[at], 95)
        print(
            f"| {name} ({len(idle[at])}, {len(busy[at])}) | {percentile(idle[at], 50):.0f} / {alone:.0f} | "
            f"{percentile(busy[at], 50):.0f} / {during:.0f} | {during / alone:.2f} |"
        )
    print()


def _after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--passages", type=int, default=2092)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--each", type=int, default=200)
    options = parser.parse_args()
    parts = options.parts or PARTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "bulk" in parts:
            bulk(folder, options.passages)
        if "growth" in parts:
            growth(folder, options.passages)
        if "freshness" in parts:
            freshness(folder, options.chunks, options.each)
        if "load" in parts:
            load(folder, options.passages)


if __name__ == "__main__":
    main()
