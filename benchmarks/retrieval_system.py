"""Measures retrieval through the running system, with the collections and measures of ``benchmarks.retrieval``.

``python -m benchmarks.retrieval_system`` publishes the documents of feedbackqa and xquad to a fresh embedded stack, as
two tenants, and asks the reporting half of their questions in each search mode. Then it asks timeqa's questions while
half of its documents are missing, and counts how many the default floor declines.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from agents.answerer.retrieval import relevance
from benchmarks.document_stack import Stack, now, stack
from benchmarks.retrieval import FLOOR, SEED, quality
from benchmarks.retrieval_data import Collection, Document, feedbackqa, halves, timeqa, xquad
from schemas.documents import DocumentSubmitted
from schemas.questions import SearchMode
from schemas.retrieval import Hit, Search
from schemas.topics import BULK_DOCUMENTS

MODES: tuple[SearchMode, ...] = ("dense", "text", "hybrid")


def publish(running: Stack, tenant: str, documents: Sequence[Document]) -> None:
    """Publishes documents and waits until they are searchable."""
    events = [_event(tenant, document) for document in documents if document.text.strip()]
    with running.listening() as reader:
        running.publish(events, BULK_DOCUMENTS)
        running.until_indexed(reader, events, 1800)


def _event(tenant: str, document: Document) -> DocumentSubmitted:
    path = document.heading.split(" > ") if document.heading else []
    headings = "".join(f"{'#' * (level + 1)} {heading}\n\n" for level, heading in enumerate(path[:6]))
    return DocumentSubmitted(
        document_id=document.document_id,
        tenant=tenant,
        title=document.title,
        text=headings + document.text,
        format="markdown" if path else "text",
        submitted_at=now(),
    )


class Searching:
    """Searches one tenant as an answerer does."""

    def __init__(self, running: Stack, tenant: str) -> None:
        self._retriever, self._tenant = running.retriever(embedding=True), tenant

    def __call__(self, mode: SearchMode, queries: Sequence[str]) -> list[list[Hit]]:
        found: list[list[Hit]] = []
        for start in range(0, len(queries), 32):
            some = queries[start : start + 32]
            found += self._retriever.search([Search(text=text, tenant=self._tenant, k=20, mode=mode) for text in some])
        return found


def measure(running: Stack, collection: Collection) -> None:
    publish(running, collection.name, collection.documents)
    _, reporting = halves(collection.questions, SEED)
    search = Searching(running, collection.name)
    for mode in MODES:
        began = time.monotonic()
        cells = " | ".join(f"{cell:.3f}" for cell in quality(search, mode, reporting))
        each = (time.monotonic() - began) / len(reporting) * 1000
        print(f"| {collection.name} | {mode} | {cells} | {each:.0f} ms |", flush=True)


def declined(running: Stack, collection: Collection) -> None:
    kept, _ = halves(collection.documents, SEED)
    publish(running, collection.name, kept)
    there = {document.document_id for document in kept}
    choosing = {document.document_id for document in halves(collection.documents, SEED + 1)[0]}
    questions = [each for each in collection.questions if each.document_id not in choosing]
    found = Searching(running, collection.name)("hybrid", [each.text for each in questions])
    low = [relevance(each.text, hits[:4]) < FLOOR for each, hits in zip(questions, found, strict=True)]
    for name, published in (("unpublished", False), ("published", True)):
        some = [
            each for question, each in zip(questions, low, strict=True) if (question.document_id in there) is published
        ]
        print(
            f"{collection.name}: {sum(some) / len(some):.1%} of {len(some)} questions about {name} documents declined"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, stack(Path(folder) / "home") as running:
        print("| collection | mode | recall@5 | MRR@10 | nDCG@10 | per question, in batches of 32 |")
        print("|---|---|---|---|---|---|")
        for collection in (xquad(), feedbackqa()):
            measure(running, collection)
        print()
        declined(running, timeqa())


if __name__ == "__main__":
    main()
