"""Puts instruction, sources, conversation and question into one chat prompt of a bounded length."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.generation import ChatMessage
from schemas.questions import Turn
from schemas.retrieval import HEADING_SEPARATOR, Chunk, Hit, headings_above
from schemas.tasks import Task

Count = Callable[[Sequence[ChatMessage]], int]
"""How many tokens a chat prompt has."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A chat prompt, the sources that found room in it, in the order of their numbers, and its length in tokens."""

    messages: tuple[ChatMessage, ...]
    sources: tuple[Hit, ...]
    tokens: int


def build_prompt(
    task: Task, question: str, hits: Sequence[Hit], history: Sequence[Turn], *, budget: int, count: Count
) -> Prompt:
    """The fullest prompt within ``budget`` tokens.

    ``hits``: best first. The last of them go first, then the oldest turns, then the best source. The instruction and
    the question always stay, so the prompt may be longer than the budget: ``tokens`` tells.
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

    # Every step is shorter than the one before, so a few counts find the first that fits.
    step = min(bisect_left(range(len(steps)), True, key=lambda each: not too_long(each)), len(steps) - 1)
    sources, _ = steps[step]
    return Prompt(messages=messages(step), sources=tuple(ranked[:sources]), tokens=lengths[step])


def hit_of(source: dict[str, Any]) -> Hit:
    """A source that a row keeps, as the prompt takes it."""
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
    """What the model is told to do; a classifying task's allowed answers are part of it."""
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
