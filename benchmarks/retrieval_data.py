"""Reads the real collections that retrieval is measured on, as documents and questions, from ../shared."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from schemas.event import JsonObject

DATA = Path(__file__).parents[2] / "shared" / "data"
Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Document:
    document_id: str
    title: str
    heading: str | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Question:
    text: str
    document_id: str
    """The one document that answers it."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    name: str
    documents: Sequence[Document]
    questions: Sequence[Question]


def feedbackqa() -> Collection:
    """Reads passages of official pages on one subject, with questions that people asked in their own words."""
    return Collection(
        name="feedbackqa",
        documents=[
            Document(
                document_id=row["doc_id"],
                title=row["page_title"],
                heading=" > ".join(row["section_headers"]) or None,
                text=row["text"],
            )
            for row in _lines("feedbackqa/passages.jsonl")
        ],
        questions=[
            Question(text=row["question"], document_id=row["doc_id"])
            for row in _lines("feedbackqa/questions_train_valid.jsonl")
        ],
    )


def xquad() -> Collection:
    """Reads paragraphs of articles, with questions whose authors saw the paragraph."""
    documents, questions = [], []
    for article in json.loads(_path("xquad_en_es/xquad.en.json").read_text(encoding="utf-8"))["data"]:
        title = article["title"].replace("_", " ")
        for number, paragraph in enumerate(article["paragraphs"]):
            key = f"{title} {number}"
            documents.append(Document(document_id=key, title=title, heading=None, text=paragraph["context"]))
            questions += [Question(text=each["question"], document_id=key) for each in paragraph["qas"]]
    return Collection(name="xquad", documents=documents, questions=questions)


def timeqa() -> Collection:
    """Reads whole articles on single subjects, with the questions about the subject that the article answers."""
    return Collection(
        name="timeqa",
        documents=[
            Document(document_id=row["doc_id"], title=row["title"], heading=None, text="\n\n".join(row["paras"]))
            for row in _lines("timeqa/docs.jsonl")
        ],
        questions=[
            Question(text=row["question"], document_id=row["doc_id"])
            for row in _lines("timeqa/questions.jsonl")
            if row["answers"]
        ],
    )


def halves(items: Sequence[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """Divides the items into two random halves that depend only on the seed."""
    shuffled = list(items)
    random.Random(seed).shuffle(shuffled)
    return shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]


def _path(name: str) -> Path:
    path = DATA / name
    if not path.is_file():
        sys.exit(f"{name} is not in ../shared/data: this benchmark needs it")
    return path


def _lines(name: str) -> list[JsonObject]:
    return [json.loads(line) for line in _path(name).read_text(encoding="utf-8").splitlines()]
