"""Decides what a question is searched for, and searches for a whole batch with one call a tenant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from agents.answerer.ports import Retriever
from schemas.questions import QuestionAsked
from schemas.retrieval import Hit
from schemas.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to look for. ``k`` is 0 where nothing is; hits less similar than ``min_score`` are dropped."""

    text: str
    tenant: str
    k: int
    min_score: float = -1.0


def search_for(question: QuestionAsked, task: Task) -> Search:
    """A question that only retrieves wants the best chunks whatever the task thinks of them."""
    if question.retrieve_only:
        return Search(text=question.text, tenant=question.tenant, k=question.top_k or task.top_k)
    k = (question.top_k or task.top_k) if task.retrieval else 0
    return Search(text=question.text, tenant=question.tenant, k=k, min_score=task.min_score)


def find(retriever: Retriever, searches: Sequence[Search]) -> list[list[Hit]]:
    """The hits of each search, best first. Raises Unavailable."""
    found: list[list[Hit]] = [[] for _ in searches]
    places: dict[str, list[int]] = defaultdict(list)
    for place, search in enumerate(searches):
        if search.k > 0:
            places[search.tenant].append(place)
    for tenant, of_tenant in places.items():
        most = max(searches[place].k for place in of_tenant)
        hits = retriever.search([searches[place].text for place in of_tenant], tenant=tenant, k=most)
        for place, each in zip(of_tenant, hits, strict=True):
            search = searches[place]
            found[place] = [hit for hit in each[: search.k] if hit.score >= search.min_score]
    return found
