"""Makes the event that answers a question, with everything that is needed to trace the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from agents.answerer.retrieval import Job, is_unknown
from agents.answerer.routing import Choice, choose
from agents.prompt import Prompt
from schemas.envelope import Received
from schemas.event import MAX_MESSAGE_CHARACTERS, Event, JsonObject
from schemas.filters import FilterError, parse_filter
from schemas.generation import Generation
from schemas.promotions import ReleaseEvent
from schemas.questions import AnswerFailed, AnswerProduced, QuestionAsked, Source, Turn
from schemas.retrieval import Hit
from schemas.tasks import Task, unknown_task


def refusal(question: QuestionAsked, tasks: Mapping[str, Task], tenants: Collection[str], now: datetime) -> str | None:
    """Returns why a question is refused, or None. ``tenants``: those that are allowed; empty means all."""
    if question.deadline is not None and question.deadline < now:
        late = (now - question.deadline).total_seconds()
        return f"deadline passed {late:.1f} s before it was this question's turn: allow more time or run more answerers"
    if question.task not in tasks:
        return unknown_task(question.task, tasks)
    if tenants and question.tenant not in tenants:
        return f"there is no tenant {question.tenant}: [tenants] names lists {', '.join(sorted(tenants))}"
    if question.filter is not None:
        try:
            parse_filter(question.filter)
        except FilterError as error:
            return f"the filter cannot be read: {error}"
    return None


def failed(asked: Received[QuestionAsked], reason: str, now: datetime, choice: Choice) -> AnswerFailed:
    return AnswerFailed(reason=reason, **_shared(asked, choice, now))


def without_model(jobs: Mapping[int, Job], states: Mapping[str, ReleaseEvent], now: datetime) -> dict[int, Event]:
    """Returns the replies that need no model: to questions that only retrieve, and to those no document answers.

    ``states``: the release of each task. A declined question names the one that would have answered it, so that drift
    checks see it. A question that only retrieves has none.
    """
    replies: dict[int, Event] = {}
    for index, job in jobs.items():
        if job.asked.event.retrieve_only:
            replies[index] = retrieved(job.asked, job.hits, now)
        elif is_unknown(job.asked.event, job.task, job.hits):
            replies[index] = declined(job, choose(job.asked.event, states), now)
    return replies


def retrieved(asked: Received[QuestionAsked], hits: Sequence[Hit], now: datetime) -> AnswerProduced:
    """Returns the answer to a question that only retrieves: sources, and no text."""
    return AnswerProduced(
        text="", sources=_sources(hits), finish_reason="retrieve_only", **_shared(asked, Choice(), now)
    )


def declined(job: Job, choice: Choice, now: datetime) -> AnswerProduced:
    """Returns the answer for a question that no document answers. It lists the hits that were not relevant enough."""
    return AnswerProduced(
        text=job.task.unknown, sources=_sources(job.hits), declined=True, **_shared(job.asked, choice, now)
    )


def produced(
    asked: Received[QuestionAsked],
    generation: Generation,
    prompt: Prompt,
    choice: Choice,
    now: datetime,
    *,
    engine: str,
    base_model: str,
) -> AnswerProduced:
    return AnswerProduced(
        # A model that generates bytes can generate the one character that no event may hold.
        text=generation.text.replace("\0", ""),
        sources=_sources(prompt.sources),
        finish_reason=generation.finish_reason,
        prompt_tokens=generation.prompt_tokens,
        completion_tokens=generation.completion_tokens,
        engine=engine,
        base_model=base_model,
        **{**_shared(asked, choice, now), "history": prompt.history},
    )


def _shared(asked: Received[QuestionAsked], choice: Choice, now: datetime) -> JsonObject:
    question = asked.event
    return {
        "answer_id": question.question_id,
        "task": question.task,
        "question": question.text,
        "history": _newest(question.history),
        "user": question.user,
        "session": question.session,
        "tenant": question.tenant,
        "adapter_id": choice.adapter_id,
        "release_sequence": choice.sequence,
        "arm": choice.arm,
        # A sender's clock may be ahead of this one.
        "latency_ms": max(0.0, (now - asked.context.time).total_seconds() * 1000),
    }


def _newest(history: Sequence[Turn]) -> tuple[Turn, ...]:
    """Returns the last turns, at most as many characters as one message may have.

    They are kept where no prompt says which turns fit. No model reads more of a conversation anyway, and an event must
    not get larger than the question was.
    """
    kept, room = len(history), MAX_MESSAGE_CHARACTERS
    while kept and (room := room - len(history[kept - 1].text)) >= 0:
        kept -= 1
    return tuple(history[kept:])


def _sources(hits: Sequence[Hit]) -> tuple[Source, ...]:
    return tuple(
        Source(
            document_id=hit.chunk.document_id,
            chunk_id=hit.chunk.chunk_id,
            score=hit.score,
            text=hit.chunk.text,
            title=hit.chunk.title,
            uri=hit.chunk.uri,
            heading=hit.chunk.heading,
        )
        for hit in hits
    )
