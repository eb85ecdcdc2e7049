"""Builds the chat prompt that is served, trained on and validated: instruction, sources, conversation, question.

Who writes a document or a question cannot forge a part of a prompt. A line that looks like the beginning of a source,
of the question or of somebody's turn is quoted, as Markdown quotes. A text without such a line is left as it is.
``infra/models/chat.py`` does the same for the tokens that separate the turns.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.datasets import DatasetRow
from schemas.event import JsonObject
from schemas.generation import ChatMessage
from schemas.questions import Turn
from schemas.retrieval import HEADING_SEPARATOR, Chunk, Hit, headings_above
from schemas.tasks import Task

PROMPT_FORMAT = 1
"""The version of the prompts that this file builds. Whoever changes a prompt raises it: adapters were trained on the
earlier one, so they are validated again, and drift checks begin a new reference."""

Count = Callable[[Sequence[ChatMessage]], int]
"""Returns how many tokens a chat prompt has."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A chat prompt and what is in it."""

    messages: tuple[ChatMessage, ...]
    sources: tuple[Hit, ...]
    """The sources that fit, in the order of their numbers in the prompt."""
    history: tuple[Turn, ...]
    """The turns of the conversation that fit, as they were given."""
    tokens: int
    """The length. It may exceed the budget: instruction and question are never left out."""
    fits: bool
    """Whether the prompt keeps to the budget. No model may be asked a prompt that does not."""


def build_prompt(
    task: Task, question: str, hits: Sequence[Hit], history: Sequence[Turn], *, budget: int, count: Count
) -> Prompt:
    """Builds a prompt of at most ``budget`` tokens that leaves out as little as possible.

    ``hits`` are sorted, best first. If the prompt is too long, sources are left out first, the worst one before the
    others, but the best one stays. Then turns of the conversation are left out, the oldest first, and at last the best
    source.
    """
    ranked = list(hits)
    shown = [_source(hit) for hit in ranked]
    turns = [ChatMessage(turn.role, _quoted(turn.text) if task.retrieval else turn.text) for turn in history]
    best = min(len(ranked), 1)
    steps = [(sources, 0) for sources in range(len(ranked), best - 1, -1)]
    steps += [(best, forgotten) for forgotten in range(1, len(history) + 1)]
    steps += [(0, len(history))] * best
    lengths: dict[int, int] = {}

    def messages(step: int) -> tuple[ChatMessage, ...]:
        sources, forgotten = steps[step]
        request = ChatMessage("user", _request(task, question, shown[:sources]))
        return (ChatMessage("system", instruction(task)), *turns[forgotten:], request)

    def too_long(step: int) -> bool:
        lengths[step] = count(messages(step))
        return lengths[step] > budget

    # Each step makes a shorter prompt than the step before, so a binary search finds the first that fits.
    step = min(bisect_left(range(len(steps)), True, key=lambda each: not too_long(each)), len(steps) - 1)
    sources, forgotten = steps[step]
    tokens = lengths[step]
    return Prompt(
        messages=messages(step),
        sources=tuple(ranked[:sources]),
        history=tuple(history[forgotten:]),
        tokens=tokens,
        fits=tokens <= budget,
    )


def too_long(task: Task, tokens: int, budget: int, context_tokens: int, count: Count) -> str:
    """Returns in one line why a prompt of ``tokens`` tokens is not asked, and what to do."""
    limit = f"[answerer] context_tokens = {context_tokens}" if budget == context_tokens else "the model's window"
    remedy = (
        "shorten it, or raise the setting" if budget == context_tokens else "shorten it, or ask for a shorter answer"
    )
    if (own := instruction_tokens(task, count)) >= budget:
        return (
            f"the instruction of the task {task.name} is too long: {own} tokens with its labels, and {budget} fit into "
            f"{limit}: {remedy}"
        )
    return f"the question is too long: {tokens} tokens with its instruction, and {budget} fit into {limit}: {remedy}"


def instruction_tokens(task: Task, count: Count) -> int:
    """Counts the tokens of a prompt of the task whose question is empty."""
    return count((ChatMessage("system", instruction(task)), ChatMessage("user", _request(task, "", ()))))


def build_row_prompt(task: Task, row: DatasetRow, *, budget: int, count: Count) -> Prompt:
    """Builds the prompt that the answerer would build for a dataset row, with the sources and turns that the row keeps.

    A row that keeps what was served, after the cuts, gives the served prompt: nothing has to be left out again.
    """
    hits = [hit_of(source) for source in row.sources]
    return build_prompt(task, row.input, hits, row.history, budget=budget, count=count)


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


def instruction(task: Task) -> str:
    """Returns the system message of a task. For a task with labels it lists the allowed answers."""
    if not task.labels:
        return task.instruction
    return f"{task.instruction}\nAnswer with one of these and nothing else: {', '.join(task.labels)}."


def _request(task: Task, question: str, sources: Sequence[str]) -> str:
    """Returns the last message. Without retrieval it has no parts, so nothing in it can be forged."""
    if not task.retrieval:
        return question
    asked = f"Question: {_quoted_below(question)}"
    if not sources:
        return f"There are no sources for this question.\n\n{asked}"
    numbered = "\n\n".join(f"[{number}] {source}" for number, source in enumerate(sources, 1))
    return f"Sources:\n{numbered}\n\n{asked}"


def _source(hit: Hit) -> str:
    above = HEADING_SEPARATOR.join(headings_above(hit.chunk.title, hit.chunk.heading))
    text = _quoted_below(f"{above}\n{hit.chunk.text}" if above else hit.chunk.text)
    mark = _MARK.match(text)
    # A second number behind the source's own would be another source's.
    return text if mark is None or mark["number"] is None else f"({mark['number']}){text[mark.end() :]}"


_MARK = re.compile(
    r"[\W_]*?(?:\[\s*(?P<number>\d+)\s*\]|(?:sources|question|system|user|human|assistant)\s*:|there are no sources\b)",
    re.IGNORECASE,
)
"""How a part of a prompt begins, or a turn where turns are written as text. Signs may stand before it, but no word."""
_BEGINNING = 80
"""The characters of a line that are looked at."""


def _quoted(text: str) -> str:
    """Quotes each line that looks like the beginning of a source, of the question or of a turn."""
    return "".join(_line_quoted(line) for line in text.splitlines(keepends=True))


def _quoted_below(text: str) -> str:
    """Quotes such lines, but not the first line, which stands behind a mark of our own."""
    first, *below = text.splitlines(keepends=True) or [""]
    return first + "".join(_line_quoted(line) for line in below)


def _line_quoted(line: str) -> str:
    shown = _as_seen(line)
    mark = _MARK.match(shown)
    if mark is None:
        return line
    if mark["number"] is None:
        return f"> {line}"
    # In brackets the model would copy the number into its answer, where it would name the real source of that number.
    return f"> ({mark['number']}){shown[mark.end() :]}"


def _as_seen(line: str) -> str:
    """Returns a line whose beginning holds no characters that look like others, such as full-width or unseen ones."""
    if line.isascii():
        return line
    plain = unicodedata.normalize("NFKC", line[:_BEGINNING])
    return "".join(each for each in plain if unicodedata.category(each) != "Cf") + line[_BEGINNING:]
