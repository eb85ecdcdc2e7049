"""Measures how well searches find the documents that answer questions, and which questions a floor declines.

``python -m benchmarks.retrieval [--quick]`` searches exactly, in memory. It prints recall, reciprocal rank and nDCG of
dense, text and hybrid search on feedbackqa and xquad. It also prints how many questions a relevance floor declines
while half of the documents are missing. Defaults were chosen on one half of the questions; the figures are of the other
half. Embeddings are stored in the cache folder: the first run takes 15 minutes, later ones two minutes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.brute_force import BruteForce, CachedEmbedder, Embedder, Recipe, chunk_documents
from benchmarks.ranking_metrics import best_first, ndcg_at, recall_at, reciprocal_rank_at
from benchmarks.relevance import SIGNALS
from benchmarks.retrieval_data import Collection, Question, feedbackqa, halves, timeqa, xquad
from infra.embedding.embedder import SentenceTransformerEmbedder
from infra.settings import Settings
from schemas.questions import SearchMode
from schemas.retrieval import Chunk, Hit
from schemas.tasks import Task

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("EVERLEARN_CACHE") or ROOT / ".cache")
SEED = 0
STRANGERS = 300
QUICK_VARIANTS = 5
FLOOR: float = Task.model_fields["floor"].default
"""The default floor: questions with a lower relevance are declined."""
PUBLISHED_DECLINED = 0.10
"""The largest share of questions about published documents that a floor may decline."""
DEFAULT = Recipe()
VARIANTS: dict[str, tuple[SearchMode, Recipe]] = {
    "dense": ("dense", DEFAULT),
    "text": ("text", DEFAULT),
    "hybrid": ("hybrid", DEFAULT),
    "text, function words kept": ("text", replace(DEFAULT, function_words=True)),
    "text, of the chunk's text alone": ("text", replace(DEFAULT, headed=False)),
    "text, k1 1.2": ("text", replace(DEFAULT, k1=1.2)),
    "text, k1 0.9, b 0.4": ("text", replace(DEFAULT, k1=0.9, b=0.4)),
    "hybrid, of the chunk's text alone": ("hybrid", replace(DEFAULT, headed=False)),
    "hybrid, constant 1": ("hybrid", replace(DEFAULT, constant=1)),
    "hybrid, constant 60": ("hybrid", replace(DEFAULT, constant=60)),
    "hybrid, function words kept": ("hybrid", replace(DEFAULT, function_words=True)),
    "hybrid, depth 10": ("hybrid", replace(DEFAULT, depth=10)),
    "hybrid, depth 20": ("hybrid", replace(DEFAULT, depth=20)),
    "hybrid, depth 200": ("hybrid", replace(DEFAULT, depth=200)),
    "hybrid, dense twice": ("hybrid", replace(DEFAULT, weights={"dense": 2.0, "text": 1.0})),
    "hybrid, text twice": ("hybrid", replace(DEFAULT, weights={"dense": 1.0, "text": 2.0})),
    "dense, chunks of 128 tokens": ("dense", replace(DEFAULT, chunk_tokens=128)),
    "hybrid, chunks of 128 tokens": ("hybrid", replace(DEFAULT, chunk_tokens=128)),
    "dense, chunks of 254 tokens": ("dense", replace(DEFAULT, chunk_tokens=254)),
    "hybrid, chunks of 254 tokens": ("hybrid", replace(DEFAULT, chunk_tokens=254)),
    "hybrid, no overlap": ("hybrid", replace(DEFAULT, overlap_tokens=0)),
    "hybrid, overlap of 60 tokens": ("hybrid", replace(DEFAULT, overlap_tokens=60)),
}


class Search(Protocol):
    """Searches a collection: exact search here, the running system in ``retrieval_system``."""

    def __call__(self, mode: SearchMode, queries: Sequence[str]) -> list[list[Hit]]: ...


def quality(search: Search, mode: SearchMode, questions: Sequence[Question]) -> tuple[float, float, float]:
    """Computes the mean recall@5, MRR@10 and nDCG@10 of documents."""
    found = search(mode, [question.text for question in questions])
    scores = []
    for question, hits in zip(questions, found, strict=True):
        ranked, relevant = best_first(hit.chunk.document_id for hit in hits), {question.document_id}
        scores.append((recall_at(5, ranked, relevant), reciprocal_rank_at(10, ranked, relevant),
                       ndcg_at(10, ranked, relevant)))  # fmt: skip
    recall, rank, gain = np.mean(scores, axis=0).tolist()
    return recall, rank, gain


def rankings(collection: Collection, embedder: Embedder, variants: Sequence[str]) -> None:
    """Prints a row of metrics for each variant."""
    choosing, reporting = halves(collection.questions, SEED)
    chunks: dict[tuple[int, int], list[Chunk]] = {}
    for name in variants:
        mode, recipe = VARIANTS[name]
        size = recipe.chunk_tokens, recipe.overlap_tokens
        chunks[size] = chunks.get(size) or chunk_documents(collection.documents, embedder, recipe)
        search = BruteForce(chunks[size], embedder, recipe).search
        cells = [*quality(search, mode, reporting), quality(search, mode, choosing)[2]]
        print(f"| {collection.name} | {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |", flush=True)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The values of each signal, for questions about published documents and for the others."""

    published: dict[str, NDArray[np.float64]]
    unpublished: dict[str, NDArray[np.float64]]


def ask(search: Search, questions: Sequence[Question], published: Set[str]) -> Asked:
    """Asks the questions by hybrid search. ``published``: the ids of the documents that can be found."""
    found = search("hybrid", [question.text for question in questions])
    pairs = list(zip(questions, found, strict=True))

    def values(there: bool) -> dict[str, NDArray[np.float64]]:
        some = [pair for pair in pairs if (pair[0].document_id in published) is there]
        return {name: np.array([signal(each.text, hits) for each, hits in some]) for name, signal in SIGNALS.items()}

    return Asked(published=values(True), unpublished=values(False))


def floors(collections: Sequence[Collection], embedder: Embedder) -> None:
    """Prints a row for each collection and signal. Floors are chosen on half of the first collection's documents."""
    chosen: dict[str, float] = {}
    for number, collection in enumerate(collections):
        kept, _ = halves(collection.documents, SEED)
        published = {document.document_id for document in kept}
        search = BruteForce(chunk_documents(kept, embedder, DEFAULT), embedder, DEFAULT).search
        choosing = {document.document_id for document in halves(collection.documents, SEED + 1)[0]}
        if not chosen:
            first = ask(search, [each for each in collection.questions if each.document_id in choosing], published)
            chosen = {name: floor_of(first.published[name]) for name in SIGNALS}
        own = ask(search, [each for each in collection.questions if each.document_id not in choosing], published)
        strange = ask(search, spread(collections[number - 1].questions, STRANGERS), set())
        for name, floor in [*chosen.items(), ("relevance", FLOOR)]:
            cells = (own.unpublished[name], own.published[name], strange.unpublished[name])
            shares = " | ".join(f"{float((cell < floor).mean()):.1%}" for cell in cells)
            print(f"| {collection.name} | {name} | {floor:.2f} | {shares} |", flush=True)


def floor_of(values: NDArray[np.float64]) -> float:
    """Finds the highest floor that declines at most PUBLISHED_DECLINED of these values."""
    return float(np.quantile(values, PUBLISHED_DECLINED, method="lower"))


def small(collection: Collection) -> Collection:
    """Takes every fourth document, with at most 200 questions about them."""
    documents = collection.documents[::4]
    kept = {document.document_id for document in documents}
    questions = [question for question in collection.questions if question.document_id in kept]
    return Collection(name=collection.name, documents=documents, questions=spread(questions, 200))


def spread(questions: Sequence[Question], most: int) -> Sequence[Question]:
    """Takes at most ``most`` questions, evenly spread."""
    return questions[:: max(1, len(questions) // most)][:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="use a quarter of the documents and the main variants")
    quick = parser.parse_args().quick
    feedback, paragraphs, articles = (small(each) if quick else each for each in (feedbackqa(), xquad(), timeqa()))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        embedder = CachedEmbedder(SentenceTransformerEmbedder(settings), CACHE / "benchmarks" / "embeddings.npz")
    print("| collection | search | recall@5 | MRR@10 | nDCG@10 | nDCG@10, choosing half |")
    print("|---|---|---|---|---|---|")
    for collection in (feedback, paragraphs):
        rankings(collection, embedder, list(VARIANTS)[: QUICK_VARIANTS if quick else None])
    print()
    print(f"Questions declined with half of the documents published; floors from timeqa, and the default {FLOOR}.")
    print("| collection | signal | floor | about unpublished | about published | about another collection |")
    print("|---|---|---|---|---|---|")
    floors((articles, feedback, paragraphs), embedder)


if __name__ == "__main__":
    main()
