"""Real questions with their embeddings, for simulations of drift: clinc150 from ../shared, embedded once and cached."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from agents.monitor.traffic import Questions
from benchmarks.retrieval_data import DATA

NEW_DOMAIN = "auto_and_commute"
"""The domain that nobody asks about before the drift."""
COMPONENTS = 96
"""The principal components that are kept, of 384 dimensions, so that thousands of checks take minutes."""


def questions(cache: Path) -> Questions:
    """Returns all questions in scope: the topics are the intents, and those of ``NEW_DOMAIN`` come last."""
    lines = (DATA / "clinc150" / "clinc150.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["intent"] != "oos"]
    intents = sorted({(row["domain"] == NEW_DOMAIN, row["intent"]) for row in rows})
    number = {intent: place for place, (_, intent) in enumerate(intents)}
    order = sorted(range(len(rows)), key=lambda place: number[rows[place]["intent"]])
    stored = cache / "benchmarks" / "clinc150.npy"
    if not stored.is_file():
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.save(stored, _embedded([row["text"] for row in rows]))
    return Questions(
        vectors=_short(np.load(stored)[order]),
        topic=np.array([number[rows[place]["intent"]] for place in order]),
        new_topics=sum(is_new for is_new, _ in intents),
    )


def _short(vectors: np.ndarray) -> np.ndarray:
    _, axes = np.linalg.eigh(np.cov(vectors.T))
    scores = vectors @ axes[:, -COMPONENTS:]
    return np.asarray(scores / np.linalg.norm(scores, axis=1, keepdims=True), dtype=np.float32)


def _embedded(texts: list[str]) -> np.ndarray:
    from infra.embedding.embedder import SentenceTransformerEmbedder
    from infra.settings import Settings

    return SentenceTransformerEmbedder(Settings(home=DATA.parent)).embed(texts).astype(np.float32)
