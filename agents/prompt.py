"""Builds the chat prompt that is served, trained on and validated: instruction, sources, conversation, question."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.datasets import DatasetRow
from schemas.event import JsonObject
from schemas.generation import ChatMessage
from schemas.questions import Turn
from schemas.retrieval import HEADING_SEPARATOR, Chunk, Hit, headings_above
from schemas.tasks import Task

Count = Callable[[Sequence[ChatMessage]], int]
"""Returns how many tokens a chat prompt has."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A chat prompt and what is in it."""

    messages: tuple[ChatMessage, ...]
    sources: tuple[Hit, ...]
    """The sources that fit, in the order of their numbers in the prompt."""
    tokens: int
    """The length. It may exceed the budget: instruction and question are never left out."""


def build_prompt(
    task: Task, question: str, hits: Sequence[Hit], history: Sequence[Turn], *, budget: int, count: Count
) -> Prompt:
    """Builds a prompt of at most ``budget`` tokens that leaves out as little as possible.

    ``hits`` are sorted, best first. If the prompt is too long, sources are left out first, the worst one before the
    others, but the best one stays. Then turns of the conversation are left out, the oldest first, and at last the best
    source.
    """
    ranked = list(hits)
    best = min(len(ranked), 1)
    steps = [(sources, 0) for sources in range(len(ranked), best - 1, -1)]
    steps += [(best, turns) for turns in range(1, len(history) + 1)]
    steps += [(0, len(history))] * best
    lengths: dict[int, int] = {}

    def messages(step: int) -> tuple[ChatMessage, ...]:
        sources, forgotten = steps[step]
        return _messages(task, question, ranked[:sources], history[forgotten:])

    def too_long(step: int) -> bool:
        lengths[step] = count(messages(step))
        return lengths[step] > budget

    # Each step makes a shorter prompt than the step before, so a binary search finds the first that fits.
    step = min(bisect_left(range(len(steps)), True, key=lambda each: not too_long(each)), len(steps) - 1)
    sources, _ = steps[step]
    return Prompt(messages=messages(step), sources=tuple(ranked[:sources]), tokens=lengths[step])


def build_row_prompt(task: Task, row: DatasetRow, *, budget: int, count: Count) -> Prompt:
    """Builds the prompt that the answerer would build for a dataset row, with the sources that the row keeps."""
    return build_prompt(task, row.input, [hit_of(source) for source in row.sources], (), budget=budget, count=count)


def hit_of(source: JsonObject) -> Hit:
    """Turns a source as a dataset row keeps it into a hit."""
    chunk = Chunk(
        chunk_id=str(source.get("chunk_id") or ""),
        tenant="",
        document_id=str(source.get("document_id") or ""),
        version="",
        ordinal=0,
        text=str(source.get("text") or ""),
        title=source.get("title"),
        uri=source.get("uri"),
        heading=source.get("heading"),
    )
    return Hit(chunk=chunk, score=float(source.get("score") or 0.0))


def _messages(task: Task, question: str, sources: Sequence[Hit], history: Sequence[Turn]) -> tuple[ChatMessage, ...]:
    turns = [ChatMessage(turn.role, turn.text) for turn in history]
    return (ChatMessage("system", instruction(task)), *turns, ChatMessage("user", _request(task, question, sources)))


def instruction(task: Task) -> str:
    """Returns the system message of a task. For a task with labels it lists the allowed answers."""
    if not task.labels:
        return task.instruction
    return f"{task.instruction}\nAnswer with one of these and nothing else: {', '.join(task.labels)}."


def _request(task: Task, question: str, sources: Sequence[Hit]) -> str:
    if not task.retrieval:
        return question
    if not sources:
        return f"There are no sources for this question.\n\nQuestion: {question}"
    numbered = "\n\n".join(f"[{number}] {_shown(hit)}" for number, hit in enumerate(sources, 1))
    return f"Sources:\n{numbered}\n\nQuestion: {question}"


def _shown(hit: Hit) -> str:
    above = HEADING_SEPARATOR.join(headings_above(hit.chunk.title, hit.chunk.heading))
    return f"{above}\n{hit.chunk.text}" if above else hit.chunk.text
