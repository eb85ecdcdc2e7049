"""Decides how documents are searched for a question, which hits are used, and whether they are relevant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.answerer.ports import Retriever
from schemas.envelope import Received
from schemas.filters import parse_filter
from schemas.questions import QuestionAsked
from schemas.retrieval import Hit, Search, headings_above
from schemas.tasks import Task
from schemas.words import content_words, words

BEST = 5
WORDS_WEIGHT = 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """A question to generate an answer for, its task and the chunks found for it."""

    asked: Received[QuestionAsked]
    task: Task
    hits: Sequence[Hit]


def search_for(question: QuestionAsked, task: Task) -> Search:
    """Returns the search for a question; its ``k`` is 0 if nothing is to be searched. Raises FilterError."""
    searched = task.retrieval or question.retrieve_only
    return Search(
        text=question.text,
        tenant=question.tenant,
        k=(question.top_k or task.top_k) if searched else 0,
        mode=question.mode or task.mode,
        where=None if question.filter is None else parse_filter(question.filter),
        scope=task.name,
    )


def find(retriever: Retriever, searches: Sequence[tuple[QuestionAsked, Task]]) -> list[list[Hit]]:
    """Returns the hits of each question, best first, without those below the task's ``min_score``.

    A question that only retrieves gets its best chunks whatever their score is. Raises Unavailable.
    """
    found = retriever.search([search_for(question, task) for question, task in searches])
    return [
        hits if question.retrieve_only else [hit for hit in hits if hit.score >= task.min_score]
        for (question, task), hits in zip(searches, found, strict=True)
    ]


def is_unknown(question: QuestionAsked, task: Task, hits: Sequence[Hit]) -> bool:
    """Whether nothing was found that is relevant enough to answer from."""
    return task.retrieval and task.floor > 0 and relevance(question.text, hits) < task.floor


def relevance(question: str, hits: Sequence[Hit], *, best: int = BEST, words_weight: float = WORDS_WEIGHT) -> float:
    """Returns the greatest relevance, 0 to 1, of the first ``best`` hits; 0 without hits.

    A hit's relevance is the weighted mean of its cosine, at least 0, and of the share of the question's content words
    that its title, heading and text hold. ``benchmarks.retrieval`` measures it, and the ``floor`` of tasks.
    """
    wanted = set(content_words(question))
    values = [0.0]
    for hit in hits[:best]:
        held = wanted.intersection(
            words(" ".join([*headings_above(hit.chunk.title, hit.chunk.heading), hit.chunk.text]))
        )
        share = len(held) / len(wanted) if wanted else 0.0
        values.append((1 - words_weight) * max(0.0, hit.score) + words_weight * share)
    return max(values)
