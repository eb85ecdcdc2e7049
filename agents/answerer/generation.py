"""Sends all questions of a batch to the engine at once, each with its own prompt, adapter and limits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from agents.answerer.ports import Engine
from agents.answerer.replies import failed, produced
from agents.answerer.retrieval import Job
from agents.answerer.routing import Choice, choose
from agents.prompt import Prompt, build_prompt, too_long
from schemas.event import Event
from schemas.generation import GenerationRequest
from schemas.promotions import ReleaseEvent


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A question with its prompt, ready for the engine."""

    request: GenerationRequest
    prompt: Prompt
    choice: Choice


def generate(
    jobs: Mapping[int, Job],
    states: Mapping[str, ReleaseEvent],
    engine: Engine,
    *,
    context_tokens: int,
    now: Callable[[], datetime],
) -> dict[int, Event]:
    """Returns the answers under the jobs' keys, all by the same release states. Raises EngineCrashed or Unavailable."""
    replies: dict[int, Event] = {}
    prepared: dict[int, _Prepared] = {}
    for index, job in jobs.items():
        choice = choose(job.asked.event, states)
        made = _prepare(job, choice, engine, context_tokens)
        if isinstance(made, str):
            replies[index] = failed(job.asked, made, now(), choice)
        else:
            prepared[index] = made
    generations = engine.generate([each.request for each in prepared.values()]) if prepared else []
    for (index, each), generation in zip(prepared.items(), generations, strict=True):
        by = {"engine": engine.name, "base_model": engine.base_model}
        replies[index] = produced(jobs[index].asked, generation, each.prompt, each.choice, now(), **by)
    return replies


def _prepare(job: Job, choice: Choice, engine: Engine, context_tokens: int) -> _Prepared | str:
    """Returns the engine's request or, in one line, why the question cannot be asked."""
    question = job.asked.event
    limit = min(question.max_tokens or job.task.max_tokens, engine.window // 2)
    budget = min(context_tokens, engine.window - limit)
    prompt = build_prompt(job.task, question.text, job.hits, question.history, budget=budget, count=engine.count_tokens)
    if not prompt.fits:
        return too_long(job.task, prompt.tokens, budget, context_tokens, engine.count_tokens)
    request = GenerationRequest(
        messages=prompt.messages,
        adapter_id=choice.adapter_id,
        max_tokens=limit,
        temperature=question.temperature,
        seed=_seed(question.question_id),
    )
    return _Prepared(request=request, prompt=prompt, choice=choice)


def _seed(question_id: str) -> int:
    """Derives the seed, so that a question that is delivered again gets the same sample."""
    return int.from_bytes(hashlib.sha256(question_id.encode()).digest()[:4], "big")
