"""What people ask, as events: a text or lines of a file become questions, or are refused."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from agents.cli.jsonl import Faulty, Item, Refusal, checked, refuse_unknown
from schemas.errors import Misuse
from schemas.filters import FilterError, parse_filter
from schemas.questions import QuestionAsked
from schemas.tasks import Task

QUESTION_FIELDS = (
    "id",
    "text",
    "task",
    "user",
    "session",
    "tenant",
    "history",
    "max_tokens",
    "temperature",
    "top_k",
    "mode",
    "filter",
)
QUERY_FIELDS = ("query_id", "text", "mode", "filter")
NAMES = {"question_id": "id"}


@dataclass(kw_only=True)
class QuestionLines:
    """Makes a question of a line's object; what the line leaves out comes from ``defaults``."""

    tasks: Mapping[str, Task]
    defaults: Mapping[str, Any]
    seen: set[str] = field(default_factory=set)

    def __call__(self, fields: dict[str, Any]) -> QuestionAsked:
        refuse_unknown(fields, QUESTION_FIELDS)
        given = {name: value for name, value in fields.items() if value is not None and name != "id"}
        question_id = fields["id"] if fields.get("id") is not None else str(uuid.uuid4())
        made = checked(lambda: QuestionAsked(**{**self.defaults, **given, "question_id": question_id}), NAMES)
        _check_filter(made)
        if made.task not in self.tasks:
            raise Faulty(unknown_task(made.task, self.tasks))
        if made.question_id in self.seen:
            raise Faulty(f"the id {made.question_id!r} stands in an earlier line: each question needs an id of its own")
        self.seen.add(made.question_id)
        return made


@dataclass(frozen=True, kw_only=True)
class Query:
    """A question for the documents alone, and what its asker calls it."""

    query_id: str
    question: QuestionAsked


@dataclass(frozen=True, kw_only=True)
class QueryLines:
    """Makes a query of a line's object."""

    defaults: Mapping[str, Any]

    def __call__(self, fields: dict[str, Any]) -> Query:
        refuse_unknown(fields, QUERY_FIELDS)
        # An id of its own, so that the same file can be searched twice without one search taking the other's hits.
        question_id = str(uuid.uuid4())
        query_id = fields.get("query_id")
        if query_id is not None and not isinstance(query_id, str):
            raise Faulty("query_id: must be a text")
        given = {name: fields[name] for name in ("mode", "filter") if fields.get(name) is not None}
        given |= {"text": fields["text"]} if "text" in fields else {}
        own = {"question_id": question_id, "retrieve_only": True}
        question = checked(lambda: QuestionAsked(**{**self.defaults, **given, **own}))
        _check_filter(question)
        return Query(query_id=query_id or question_id, question=question)


def _check_filter(question: QuestionAsked) -> None:
    try:
        if question.filter is not None:
            parse_filter(question.filter)
    except FilterError as error:
        raise Faulty(f"filter: {error}") from None


def choose_task(name: str | None, tasks: Mapping[str, Task], *, retrieval: bool = False) -> str:
    """The task that was named, or the first one there is (the first with retrieval). Raises Misuse."""
    if name is not None:
        if name not in tasks:
            raise Misuse(unknown_task(name, tasks))
        return name
    if not tasks:
        raise Misuse("no task is configured: run 'everlearn init', or 'everlearn tasks add NAME --instruction …'")
    for task in tasks.values():
        if task.retrieval or not retrieval:
            return task.name
    raise Misuse("no configured task uses retrieval: set retrieval = true in one, or name a task with --task")


def unknown_task(name: str, tasks: Mapping[str, Task]) -> str:
    """One line that names the tasks there are."""
    return f"the task {name!r} is not configured; there is {', '.join(tasks) or 'none'}"


def sort_out(items: Iterable[Item[Any] | Refusal], refuse: Callable[[Refusal], None]) -> list[Any]:
    """The values that can be used, in order; each refusal is handed to ``refuse``."""
    usable = []
    for item in items:
        if isinstance(item, Refusal):
            refuse(item)
        else:
            usable.append(item.value)
    return usable
