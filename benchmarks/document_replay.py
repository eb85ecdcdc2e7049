"""Replays the history of a real documentation site in several orders, and counts the errors in the index.

``python -m benchmarks.document_replay [--events N] [order] [shuffled] [twice] [killed]`` uses a fresh embedded stack
for each order. The truth is the state after all events in order. The benchmark compares it with the table of documents,
and with the chunks of every document in Milvus.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from agents.indexer.chunks import make_chunks
from benchmarks.document_stack import DATA, Published, Stack, now, stack
from infra.conversion import read_html
from schemas.documents import DocumentSubmitted, DocumentWithdrawn
from schemas.topics import BULK_DOCUMENTS

EVENTS = DATA / "fastapi_docs_stream" / "docs_events.jsonl.gz"
WAYS = ("order", "shuffled", "twice", "killed")
KILL_SECONDS = 5.0
"""How long the loader runs after it is ready, until it is killed."""
MOST_KILLS = 20


def history(most: int) -> list[Published]:
    """Returns the last events of the stream, with times one second apart that end now."""
    with gzip.open(EVENTS, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][-most:]
    began = now() - timedelta(seconds=len(rows) + 60)
    return [_event(row, began + timedelta(seconds=place)) for place, row in enumerate(rows)]


def _event(row: dict[str, str], at: datetime) -> Published:
    if row["op"] == "delete" or not row["text"].strip():
        return DocumentWithdrawn(document_id=row["doc_id"], submitted_at=at)
    return DocumentSubmitted(document_id=row["doc_id"], text=row["text"], format="markdown", submitted_at=at)


def replay(folder: Path, way: str, events: Sequence[Published]) -> None:
    sent = list(events)
    if way == "shuffled":
        random.Random(3).shuffle(sent)
    if way == "twice":
        sent = [each for event in sent for each in (event, event)]
    with stack(folder / way) as running:
        over = threading.Event()
        kills: list[int] = []
        killer = threading.Thread(target=_kill, args=(running, over, kills), daemon=True)
        with running.listening() as reader:
            if way == "killed":
                killer.start()
            began = time.monotonic()
            running.publish(sent, BULK_DOCUMENTS if way == "killed" else None)
            running.until_indexed(reader, events, 1800)
            took = time.monotonic() - began
        over.set()
        time.sleep(12)  # a sweep deletes the chunks that killed processes left
        wrong, left_over, distinct, embedded = compare(running, events)
    print(
        f"| {way} | {len(sent):,} | {len(kills)} | {took:.0f} s | {wrong} | {left_over} | {distinct:,} | {embedded:,} |"
    )
    sys.stdout.flush()


def _kill(running: Stack, over: threading.Event, kills: list[int]) -> None:
    while len(kills) < MOST_KILLS and not over.wait(0.1):
        if running.starts("loader-1") > len(kills) and not over.wait(KILL_SECONDS):
            pid = running.workers()["loader-1"]
            os.kill(pid, signal.SIGKILL)
            kills.append(pid)


def compare(running: Stack, events: Sequence[Published]) -> tuple[int, int, int, int]:
    """Returns the numbers of wrong documents, of chunks too many, of distinct texts and of computed embeddings."""
    truth = {event.document_id: event for event in sorted(events, key=lambda event: event.submitted_at)}
    (index,) = running.indexes.active()
    store = running.stores.of(index)
    expected = 0
    wrong = []
    states = running.documents.current([("default", name) for name in truth])
    for name, event in truth.items():
        state = states.get(("default", name))
        if isinstance(event, DocumentWithdrawn):
            ok = state is not None and state.withdrawn and not store.versions("default", name)
        else:
            chunks = make_chunks(
                event, state.version if state else "", running.embedder.token_spans, index.recipe, read_html
            )
            expected += len(chunks)
            there = store.versions("default", name)
            ok = state is not None and there == ({state.version: len(chunks)} if chunks else {})
            ok = ok and state is not None and state.chunk_count == len(chunks)
        if not ok:
            wrong.append(name)
    hashes = running.embedded()
    return len(wrong), store.count() - expected, hashes[0], hashes[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ways", nargs="*", choices=[*WAYS, []])
    parser.add_argument("--events", type=int, default=2204)
    options = parser.parse_args()
    if not EVENTS.is_file():
        sys.exit("fastapi_docs_stream is not in ../shared/data: this benchmark needs it")
    events = history(options.events)
    print("| replayed | events | kills | took | documents wrong | chunks too many | distinct texts | computed |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for way in options.ways or WAYS:
            replay(Path(folder), way, events)


if __name__ == "__main__":
    main()
