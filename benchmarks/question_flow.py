"""Compares the rates of indexing and answering through the topics with those of the bare parts, on real input.

``python -m benchmarks.question_flow [--passages N] [--questions N] [--tokens N]`` publishes feedbackqa's passages to a
fresh embedded stack and asks its questions. With the stack down, it then gives the same chunks and prompts to the
embedding model and the engine alone, in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from schemas.event import JsonObject

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "feedbackqa"
CACHE = Path(os.environ.get("EVERLEARN_CACHE") or ROOT / ".cache")


def everlearn(home: Path, *words: str) -> list[JsonObject]:
    """Runs a command in a process of its own, and returns the JSON lines that it printed."""
    environment = {**os.environ, "EVERLEARN_MODEL_FOLDER": str(CACHE / "models")}
    done = subprocess.run(
        [sys.executable, "-m", "agents", "--home", str(home), *words],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def read_lines(path: Path) -> list[JsonObject]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: Sequence[JsonObject]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def passages(most: int) -> list[JsonObject]:
    rows = read_lines(DATA / "passages.jsonl")[:most]
    return [
        {"id": row["doc_id"], "text": row["text"], "title": row["page_title"]} for row in rows if row["text"].strip()
    ]


def questions(most: int, known: set[str]) -> list[JsonObject]:
    """Returns questions whose gold passage was published, spread evenly over the file."""
    rows = [row for row in read_lines(DATA / "questions_train_valid.jsonl") if row["doc_id"] in known]
    return rows[:: max(1, len(rows) // most)][:most]


def through_the_topics(folder: Path, documents: list[JsonObject], asked: list[JsonObject], tokens: int) -> JsonObject:
    """Publishes, searches and asks with a fresh stack; returns what the commands printed, and their seconds."""
    home = folder / "home"
    began = time.monotonic()
    everlearn(home, "up", "--detach")
    up = time.monotonic() - began
    try:
        (published,) = everlearn(
            home, "publish", "documents", str(write_lines(folder / "d.jsonl", documents)), "--wait", "--timeout", "600",
            "--json",
        )  # fmt: skip
        queries = write_lines(folder / "q.jsonl", [{"query_id": row["id"], "text": row["question"]} for row in asked])
        began = time.monotonic()
        hits = everlearn(home, "search", "--queries", str(queries), "-k", "5", "--json")
        searching = time.monotonic() - began
        lines = write_lines(folder / "a.jsonl", [{"id": row["id"], "text": row["question"]} for row in asked])
        began = time.monotonic()
        answers = everlearn(
            home, "ask", "--questions", str(lines), "--task", "support", "--max-tokens", str(tokens), "--timeout",
            "900", "--json",
        )  # fmt: skip
        answering = time.monotonic() - began
    finally:
        everlearn(home, "down")
    return {"up": up, "published": published, "hits": hits, "searching": searching, "answers": answers,
            "answering": answering, "home": home}  # fmt: skip


def bare_parts(home: Path, documents: list[JsonObject], answers: list[JsonObject], tokens: int) -> JsonObject:
    """Embeds the same chunks with ``embed`` alone, and answers the same prompts with the engine alone."""
    os.environ["EVERLEARN_MODEL_FOLDER"] = str(CACHE / "models")
    from agents.indexer.chunks import make_chunks, text_to_embed
    from agents.prompt import build_prompt
    from agents.wiring.indexer import configured_indexes
    from infra.conversion import read_html
    from infra.embedding.embedder import SentenceTransformerEmbedder
    from infra.engines.transformers import TransformersEngine
    from infra.settings import load
    from schemas.documents import DocumentSubmitted
    from schemas.generation import GenerationRequest
    from schemas.indexes import DEFAULT_SCOPE
    from schemas.retrieval import Chunk, Hit

    settings = load(home)
    embedder = SentenceTransformerEmbedder(settings)
    recipe = configured_indexes(settings).recipe(DEFAULT_SCOPE, embedder.model, embedder.max_tokens)
    at = datetime.now(UTC)
    texts = [
        text_to_embed(chunk)
        for document in documents
        for chunk in make_chunks(
            DocumentSubmitted(
                document_id=document["id"], text=document["text"], title=document["title"], submitted_at=at
            ),
            "v",
            embedder.token_spans,
            recipe,
            read_html,
        )
    ]
    embedder.embed(texts[:64])
    began = time.monotonic()
    embedder.embed(texts)
    encoding = time.monotonic() - began

    engine = TransformersEngine.load(settings)
    task = settings.tasks["support"]
    requests = []
    for answer in answers:
        hits = [
            Hit(chunk=Chunk(chunk_id=each["chunk_id"], tenant="default", document_id=each["document_id"], version="",
                            ordinal=0, text=each["text"], title=each.get("title")), score=each["score"])
            for each in answer["sources"]
        ]  # fmt: skip
        budget = settings.answerer.context_tokens
        prompt = build_prompt(task, answer["question"], hits, (), budget=budget, count=engine.count_tokens)
        requests.append(GenerationRequest(messages=prompt.messages, max_tokens=tokens))
    began = time.monotonic()
    for first in range(0, len(requests), settings.answerer.batch):
        engine.generate(requests[first : first + settings.answerer.batch])
    return {"chunks": len(texts), "encoding": encoding, "generating": time.monotonic() - began}


def recall_at_5(asked: list[JsonObject], hits: list[JsonObject]) -> float:
    gold = {row["id"]: row["doc_id"] for row in asked}
    found = sum(any(hit["document_id"] == gold[row["query_id"]] for hit in row["hits"]) for row in hits)
    return found / len(hits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--passages", type=int, default=2092)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=32)
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit("feedbackqa is not in ../shared/data: this benchmark needs it")
    documents = passages(options.passages)
    asked = questions(options.questions, {row["id"] for row in documents})
    with tempfile.TemporaryDirectory() as folder:
        flow = through_the_topics(Path(folder), documents, asked, options.tokens)
        said = [answer for answer in flow["answers"] if "reason" not in answer]
        produced = [answer for answer in said if not answer["declined"]]
        bare = bare_parts(flow["home"], documents, produced, options.tokens)
    indexing = bare["chunks"] / flow["published"]["seconds"]
    encoding = bare["chunks"] / bare["encoding"]
    answering = len(produced) / flow["answering"]
    generating = len(produced) / bare["generating"]
    print(f"stack: ready in {flow['up']:.1f} s")
    print(
        f"{len(documents):,} passages, {bare['chunks']:,} chunks; {len(asked)} questions, {options.tokens} tokens each"
    )
    print("| what | through the topics | bare part | ratio |")
    print("|---|---|---|---|")
    print(f"| chunks/s | {indexing:.1f} | {encoding:.1f} (embed) | {indexing / encoding:.2f} |")
    print(f"| answers/s | {answering:.2f} | {generating:.2f} (engine) | {answering / generating:.2f} |")
    print(f"| searches/s | {len(asked) / flow['searching']:.1f} | | |")
    failed, declined = len(flow["answers"]) - len(said), len(said) - len(produced)
    print(f"recall@5: {recall_at_5(asked, flow['hits']):.3f}; failed answers: {failed}; declined: {declined}")


if __name__ == "__main__":
    main()
